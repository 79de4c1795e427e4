# The control plane, who may use it, and a small node group for what must run before Karpenter does

resource "aws_iam_role" "cluster" {
  name               = "${local.name}-cluster"
  assume_role_policy = data.aws_iam_policy_document.cluster_trust.json
}

data "aws_iam_policy_document" "cluster_trust" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_kms_key" "secrets" {
  description         = "Kubernetes Secrets of ${local.name}"
  enable_key_rotation = true
}

resource "aws_cloudwatch_log_group" "cluster" {
  # EKS makes it by itself when it is not there, and then keeps everything for ever
  name              = "/aws/eks/${local.name}/cluster"
  retention_in_days = 90
}

resource "aws_eks_cluster" "this" {
  name                      = local.name
  version                   = var.kubernetes_version
  role_arn                  = aws_iam_role.cluster.arn
  enabled_cluster_log_types = ["api", "audit", "authenticator"]

  # The add-ons below take their place, which EKS can update
  bootstrap_self_managed_addons = false

  access_config {
    # Access entries alone: no ConfigMap aws-auth that somebody overwrites, and no hidden right of whoever made the cluster
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = false
  }

  vpc_config {
    subnet_ids              = var.private_subnet_ids
    endpoint_private_access = true
    endpoint_public_access  = length(var.public_access_cidrs) > 0
    public_access_cidrs     = length(var.public_access_cidrs) > 0 ? var.public_access_cidrs : null
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = aws_kms_key.secrets.arn
    }
  }

  # A version that is no longer supported is upgraded, and not kept for six times the price
  upgrade_policy {
    support_type = "STANDARD"
  }

  depends_on = [aws_iam_role_policy_attachment.cluster, aws_cloudwatch_log_group.cluster]
}

resource "aws_eks_access_entry" "admin" {
  for_each      = var.admin_role_arns
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.value
}

resource "aws_eks_access_policy_association" "admin" {
  for_each      = var.admin_role_arns
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.admin[each.value].principal_arn
  policy_arn    = "arn:${local.partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

  access_scope {
    type = "cluster"
  }
}

resource "aws_eks_access_entry" "viewer" {
  for_each      = var.viewer_role_arns
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.value
}

resource "aws_eks_access_policy_association" "viewer" {
  for_each      = var.viewer_role_arns
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.viewer[each.value].principal_arn
  policy_arn    = "arn:${local.partition}:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"

  access_scope {
    type       = "namespace"
    namespaces = [local.name]
  }
}

# Service accounts prove who they are with tokens that this provider vouches for (IRSA). AWS reads the issuer's certificate
# itself, so no thumbprint is given.
resource "aws_iam_openid_connect_provider" "cluster" {
  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

# How Karpenter finds the security group of its nodes, which is this cluster's own. The EC2NodeClasses name the subnets by
# their ids: subnets are given, their tags belong to whoever made them, and another environment of the VPC uses them too.
resource "aws_ec2_tag" "security_group" {
  resource_id = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  key         = "karpenter.sh/discovery"
  value       = local.name
}

resource "aws_launch_template" "system" {
  name = "${local.name}-system"

  # Pods cannot reach the node's role
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type = "gp3"
      volume_size = 50
      encrypted   = true
    }
  }

  # The provider's default tags stop at the template; what EC2 makes by it is tagged here
  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume", "network-interface"])
    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, { Name = "${local.name}-system" })
    }
  }
}

# The newest AMI of the cluster's Kubernetes version: an apply patches the nodes, and raises them with the cluster
data "aws_ssm_parameter" "system_release" {
  name = "/aws/service/eks/optimized-ami/${aws_eks_cluster.this.version}/amazon-linux-2023/x86_64/standard/recommended/release_version"
}

resource "aws_eks_node_group" "system" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "system"
  node_role_arn   = aws_iam_role.node["system"].arn
  subnet_ids      = var.private_subnet_ids
  instance_types  = var.system_instance_types
  ami_type        = "AL2023_x86_64_STANDARD"
  version         = aws_eks_cluster.this.version
  release_version = nonsensitive(data.aws_ssm_parameter.system_release.value)

  launch_template {
    id      = aws_launch_template.system.id
    version = aws_launch_template.system.latest_version
  }

  scaling_config {
    min_size     = 2
    desired_size = var.system_nodes
    max_size     = var.system_nodes + 1
  }

  update_config {
    max_unavailable = 1
  }

  # For what must run before Karpenter makes nodes. Trainings and servers would fill two small nodes, and be evicted by each update.
  taint {
    key    = "CriticalAddonsOnly"
    value  = "true"
    effect = "NO_SCHEDULE"
  }

  node_repair_config {
    enabled = true
  }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.network]
}

locals {
  tolerations = [{ key = "CriticalAddonsOnly", operator = "Exists" }]
  # CoreDNS and the controller of volumes tolerate the taint by themselves, and so do DaemonSets, which tolerate any
  addons = {
    network = {
      # The namespaces deny what is not allowed: without this their NetworkPolicies are accepted and do nothing
      vpc-cni    = { enableNetworkPolicy = "true" }
      kube-proxy = null
    }
    workload = {
      coredns = null
      # Volumes that pods ask for are made by the driver, which knows none of the provider's tags
      aws-ebs-csi-driver = { controller = { extraVolumeTags = local.tags } }
      # Certificates of KServe's webhooks
      cert-manager = {
        tolerations = local.tolerations
        webhook     = { tolerations = local.tolerations }
        cainjector  = { tolerations = local.tolerations }
      }
      # `kubectl top`, and autoscaling of predictors
      metrics-server = { tolerations = local.tolerations }
      # Tells what is wrong with a node in its conditions, GPU faults too; Karpenter's NodeRepair replaces such nodes
      eks-node-monitoring-agent = null
    }
  }
}

# The version that EKS recommends for the cluster's Kubernetes, unless one is given: EKS updates no add-on by itself
data "aws_eks_addon_version" "this" {
  for_each           = merge(local.addons.network, local.addons.workload)
  addon_name         = each.key
  kubernetes_version = aws_eks_cluster.this.version
}

locals {
  recommended = { for name, addon in data.aws_eks_addon_version.this : name => addon.version }
}

# Before any node, or nodes never become Ready
resource "aws_eks_addon" "network" {
  for_each             = local.addons.network
  cluster_name         = aws_eks_cluster.this.name
  addon_name           = each.key
  addon_version        = lookup(var.addon_versions, each.key, local.recommended[each.key])
  configuration_values = each.value == null ? null : jsonencode(each.value)
  # What somebody has changed by hand would stop an update half way
  resolve_conflicts_on_update = "OVERWRITE"
}

resource "aws_eks_addon" "workload" {
  for_each                    = local.addons.workload
  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = lookup(var.addon_versions, each.key, local.recommended[each.key])
  configuration_values        = each.value == null ? null : jsonencode(each.value)
  resolve_conflicts_on_update = "OVERWRITE"
  service_account_role_arn    = each.key == "aws-ebs-csi-driver" ? aws_iam_role.service_account["ebs-csi"].arn : null

  depends_on = [aws_eks_node_group.system]
}
