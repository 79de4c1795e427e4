variable "environment" {
  description = "Which overlay this is for. One environment has a cluster of its own."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "There are overlays for staging and production."
  }
}

variable "region" {
  description = "AWS region. The overlays say us-east-1; change it there too."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "A region looks like us-east-1."
  }
}

variable "vpc_id" {
  description = "An existing VPC with DNS hostnames switched on."
  type        = string

  validation {
    condition     = can(regex("^vpc-[0-9a-f]{8,17}$", var.vpc_id))
    error_message = "A VPC's id looks like vpc-0123456789abcdef0."
  }
}

variable "private_subnet_ids" {
  description = "Private subnets in at least two zones, with a way out for image pulls and AWS's APIs. More zones give more spot capacity."
  type        = list(string)

  validation {
    condition     = length(distinct(var.private_subnet_ids)) >= 2 && length(distinct(var.private_subnet_ids)) == length(var.private_subnet_ids)
    error_message = "EKS and Aurora want at least two different subnets."
  }

  validation {
    condition     = alltrue([for id in var.private_subnet_ids : can(regex("^subnet-[0-9a-f]{8,17}$", id))])
    error_message = "A subnet's id looks like subnet-0123456789abcdef0."
  }
}

variable "kubernetes_version" {
  description = "Of the control plane. 1.36 is the first with the MutatingAdmissionPolicy that k8s/base/training-operator uses."
  type        = string
  default     = "1.36"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version)) && try(tonumber(split(".", var.kubernetes_version)[1]) >= 36, false)
    error_message = "Give 1.36 or newer, without a patch number."
  }
}

variable "addon_versions" {
  description = "Versions of EKS add-ons by their name, where the one that EKS recommends for the Kubernetes version is not wanted."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for version in values(var.addon_versions) : can(regex("^v[0-9]+\\.[0-9]+\\.[0-9]+-eksbuild\\.[0-9]+$", version))])
    error_message = "A version looks like v1.21.1-eksbuild.1; `aws eks describe-addon-versions` lists them."
  }

  validation {
    condition     = length(setsubtract(keys(var.addon_versions), keys(merge(local.addons.network, local.addons.workload)))) == 0
    error_message = "The cluster has the add-ons ${join(", ", keys(merge(local.addons.network, local.addons.workload)))}."
  }
}

variable "admin_role_arns" {
  description = "IAM roles whose holders administer the cluster. Whoever runs this must be able to take on one of them."
  type        = set(string)

  validation {
    condition     = length(var.admin_role_arns) > 0 && alltrue([for arn in var.admin_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Give at least one role, such as arn:aws:iam::111122223333:role/platform. Users and the root account cannot be given."
  }
}

variable "viewer_role_arns" {
  description = "IAM roles whose holders may look at the environment's namespace, Secrets excepted."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.viewer_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "A role looks like arn:aws:iam::111122223333:role/data-science."
  }

  validation {
    condition     = length(setintersection(var.viewer_role_arns, var.admin_role_arns)) == 0
    error_message = "A role has one access entry: who administers the cluster looks at it, too."
  }
}

variable "public_access_cidrs" {
  description = "Networks that may reach the cluster's API over the internet. None: only the VPC and what is connected to it."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for cidr in var.public_access_cidrs : can(cidrnetmask(cidr)) && !endswith(cidr, "/0") &&
      !can(regex("^(10|127|169[.]254|172[.](1[6-9]|2[0-9]|3[01])|192[.]168)[.]", cidr))
    ])
    error_message = "Give public IPv4 networks such as 203.0.113.0/24, not the whole internet. Private ones reach the API through the VPC."
  }
}

variable "system_instance_types" {
  description = "Of the nodes that carry CoreDNS, Karpenter and the operators. A taint keeps everything else on nodes that Karpenter makes."
  type        = list(string)
  default     = ["m7i.large"]

  validation {
    condition = length(var.system_instance_types) > 0 && alltrue([
      for type in var.system_instance_types : can(regex("^[a-z][a-z0-9-]*[.][a-z0-9-]+$", type)) && !can(regex("^(a1|[a-z]+[0-9]+[a-z]*g[a-z]*)[.]", type))
    ])
    error_message = "Give at least one type such as m7i.large, none of them with an ARM processor: the images are for amd64."
  }
}

variable "system_nodes" {
  description = "How many of them. Karpenter runs two replicas on different nodes."
  type        = number
  default     = 2

  validation {
    condition     = var.system_nodes >= 2 && var.system_nodes <= 10 && floor(var.system_nodes) == var.system_nodes
    error_message = "Give 2 to 10."
  }
}

variable "aurora" {
  description = "Aurora PostgreSQL in ACUs of 2 GiB. Not needed in staging, where PostgreSQL runs in the cluster: null."
  type = object({
    min_acu            = optional(number, 0.5)
    max_acu            = optional(number, 8)
    readers            = optional(number, 1)
    engine_version     = optional(string, "17.5")
    backup_days        = optional(number, 14)
    maintenance_window = optional(string, "sun:03:00-sun:04:00")
  })
  default = {}

  validation {
    condition     = var.aurora == null || try(var.aurora.min_acu >= 0.5 && var.aurora.max_acu >= var.aurora.min_acu && var.aurora.max_acu <= 256, false)
    error_message = "ACUs go from 0.5 to 256. With 0 the database would pause, and a paused one fails Dagster's heartbeats."
  }

  validation {
    condition     = var.aurora == null || try(alltrue([for acu in [var.aurora.min_acu, var.aurora.max_acu] : floor(2 * acu) == 2 * acu]), false)
    error_message = "ACUs are whole or half numbers."
  }

  validation {
    condition     = var.aurora == null || can(regex("^[1-9][0-9][.][0-9]+$", var.aurora.engine_version))
    error_message = "A version of Aurora PostgreSQL looks like 17.5; `aws rds describe-db-engine-versions --engine aurora-postgresql` lists them."
  }

  validation {
    condition     = var.aurora == null || try(contains(range(16), var.aurora.readers), false)
    error_message = "Aurora has up to 15 readers. One makes a failover a matter of seconds."
  }

  validation {
    condition     = var.aurora == null || try(contains(range(1, 36), var.aurora.backup_days), false)
    error_message = "Backups are kept for 1 to 35 days."
  }

  validation {
    condition     = var.aurora == null || can(regex("^((-|^)(mon|tue|wed|thu|fri|sat|sun):([01][0-9]|2[0-3]):[0-5][0-9]){2}$", var.aurora.maintenance_window))
    error_message = "A window, in UTC, looks like sun:03:00-sun:04:00."
  }
}

variable "source_bucket_arns" {
  description = "Buckets that models' source data is read from, beyond the lake's own."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.source_bucket_arns : can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", arn))])
    error_message = "Give bucket ARNs without a path, such as arn:aws:s3:::flights."
  }
}

variable "compute_log_days" {
  description = "How long stdout and stderr of steps are kept."
  type        = number
  default     = 90

  validation {
    condition     = var.compute_log_days >= 1 && floor(var.compute_log_days) == var.compute_log_days
    error_message = "Give whole days, at least one."
  }
}

variable "database_secrets_version" {
  description = "Raise it by one to put the other user of each database into Secrets Manager, with a new password. Then tell the databases, see docs/production/upgrades.md."
  type        = number
  default     = 1

  validation {
    condition     = var.database_secrets_version >= 1 && floor(var.database_secrets_version) == var.database_secrets_version
    error_message = "Give 1, 2, 3 and so on."
  }
}

variable "secrets_version" {
  description = "Raise it to put new passwords of MLflow's users, and of PostgreSQL in the cluster, into Secrets Manager, see docs/production/upgrades.md."
  type        = number
  default     = 1

  validation {
    condition     = var.secrets_version >= 1 && floor(var.secrets_version) == var.secrets_version
    error_message = "Give 1, 2, 3 and so on."
  }
}

variable "create_repositories" {
  description = "False where another environment of this account and region has made the ECR repositories."
  type        = bool
  default     = true
}

variable "create_spot_role" {
  description = "True in an account that has never run spot instances. `aws iam get-role --role-name AWSServiceRoleForEC2Spot` tells."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Whether Aurora, its last snapshot and the bucket survive a destroy. Switch it off only to take an experiment down."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Further tags of everything, for example a cost centre. What Karpenter makes gets them by output `tags` and the EC2NodeClasses."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.tags) <= 40 && alltrue([for key, value in var.tags : can(regex("^[^:].{0,127}$", key)) && !startswith(lower(key), "aws:") && length(value) <= 256])
    error_message = "AWS takes names of up to 128 characters that do not begin with aws:, values of up to 256, and 50 tags, of which some are made here."
  }
}
