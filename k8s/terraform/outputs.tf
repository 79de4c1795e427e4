output "cluster_name" {
  description = "For `aws eks update-kubeconfig` and helm-values/karpenter.yaml."
  value       = aws_eks_cluster.this.name
}

output "namespace" {
  description = "Where the overlay deploys; the names of all roles begin with it."
  value       = local.name
}

output "region" {
  description = "Where all of this is."
  value       = var.region
}

output "interruption_queue" {
  description = "For helm-values/karpenter.yaml."
  value       = aws_sqs_queue.interruption.name
}

output "karpenter_role_arn" {
  description = "For helm-values/karpenter.yaml."
  value       = aws_iam_role.service_account["karpenter"].arn
}

output "node_role" {
  description = "For the EC2NodeClasses."
  value       = aws_iam_role.node["karpenter"].name
}

output "node_instance_profile" {
  description = "For the EC2NodeClasses, `instanceProfile` in place of `role`, in networks without a way out."
  value       = aws_iam_instance_profile.node.name
}

output "vpc_id" {
  description = "Whose ranges the way to the database is limited to."
  value       = var.vpc_id
}

output "private_subnet_ids" {
  description = "For the EC2NodeClasses, `subnetSelectorTerms`."
  value       = var.private_subnet_ids
}

output "tags" {
  description = "For the EC2NodeClasses, `tags`: instances, volumes and network interfaces that Karpenter makes."
  value       = local.tags
}

output "role_arns" {
  description = "For the annotations of service accounts, by kind of pod."
  value       = { for name, role in aws_iam_role.service_account : name => role.arn }
}

output "service_accounts" {
  description = "Who may take on which of these roles, as namespace:service-account."
  value       = local.service_accounts
}

output "bucket" {
  description = "Lake, MLflow's artifacts, compute logs."
  value       = aws_s3_bucket.this.bucket
}

output "registry" {
  description = "For `docker login` and the overlay's images."
  value       = local.registry
}

output "repositories" {
  description = "The images without their tags."
  value       = { for image in local.images : image => "${local.registry}/${image}" }
}

output "database_host" {
  description = "DAGSTER_PG_HOST of the overlay: Aurora's writer, or the Service of the PostgreSQL in the cluster."
  value       = local.database_host
}

output "aurora_arn" {
  description = "For `aws rds-data`; null without Aurora."
  value       = one(aws_rds_cluster.this[*].arn)
}

output "aurora_superuser_secret_arn" {
  description = "For `aws rds-data`; null without Aurora."
  value       = try(aws_rds_cluster.this[0].master_user_secret[0].secret_arn, null)
}

output "secrets" {
  description = "What External Secrets reads."
  value       = [for secret in aws_secretsmanager_secret.this : secret.name]
}
