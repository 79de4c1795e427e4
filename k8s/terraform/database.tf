# Aurora PostgreSQL for Dagster and MLflow, with a database and a user for each (docs/production/databases.md makes them)

resource "aws_db_subnet_group" "this" {
  count      = var.aurora == null ? 0 : 1
  name       = local.name
  subnet_ids = var.private_subnet_ids
}

resource "aws_security_group" "database" {
  count       = var.aurora == null ? 0 : 1
  name        = "${local.name}-aurora"
  description = "PostgreSQL of ${local.name}"
  vpc_id      = var.vpc_id
}

# All nodes carry the cluster's security group; which pods may connect is said by the namespace's network policies
resource "aws_vpc_security_group_ingress_rule" "database" {
  count                        = var.aurora == null ? 0 : 1
  description                  = "Pods"
  security_group_id            = aws_security_group.database[0].id
  referenced_security_group_id = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_rds_cluster_parameter_group" "this" {
  count = var.aurora == null ? 0 : 1
  # A new major has a family of its own. Its group is made beside the old one, which is in use until the cluster has changed.
  name_prefix = "${local.name}-"
  family      = "aurora-postgresql${split(".", var.aurora.engine_version)[0]}"

  # No password and no row in clear text on the wire
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "database" {
  count = var.aurora == null ? 0 : 1
  # RDS makes it by itself when it is not there, and then keeps everything for ever
  name              = "/aws/rds/cluster/${local.name}/postgresql"
  retention_in_days = 90
}

resource "aws_rds_cluster" "this" {
  count                           = var.aurora == null ? 0 : 1
  cluster_identifier              = local.name
  engine                          = "aurora-postgresql"
  engine_version                  = var.aurora.engine_version
  db_subnet_group_name            = aws_db_subnet_group.this[0].name
  db_cluster_parameter_group_name = aws_rds_cluster_parameter_group.this[0].name
  vpc_security_group_ids          = [aws_security_group.database[0].id]
  storage_encrypted               = true

  # RDS makes the superuser's password, keeps it in Secrets Manager and changes it every week; it is in no state
  master_username             = "postgres"
  manage_master_user_password = true

  # SQL over HTTPS with IAM's rights: how the databases are made without a way into the VPC
  enable_http_endpoint = true

  serverlessv2_scaling_configuration {
    min_capacity = var.aurora.min_acu
    max_capacity = var.aurora.max_acu
  }

  backup_retention_period         = var.aurora.backup_days
  copy_tags_to_snapshot           = true
  deletion_protection             = var.deletion_protection
  skip_final_snapshot             = !var.deletion_protection
  final_snapshot_identifier       = "${local.name}-final"
  enabled_cloudwatch_logs_exports = ["postgresql"]

  # Who applies a plan has chosen the moment: otherwise RDS puts changes off, and Terraform says that they are done.
  # What RDS itself must do has its window.
  apply_immediately            = true
  allow_major_version_upgrade  = true
  preferred_maintenance_window = var.aurora.maintenance_window

  depends_on = [aws_cloudwatch_log_group.database]
}

resource "aws_rds_cluster_instance" "this" {
  count                        = var.aurora == null ? 0 : 1 + var.aurora.readers
  identifier                   = "${local.name}-${count.index}"
  cluster_identifier           = aws_rds_cluster.this[0].id
  engine                       = aws_rds_cluster.this[0].engine
  engine_version               = aws_rds_cluster.this[0].engine_version
  instance_class               = "db.serverless"
  performance_insights_enabled = true
  apply_immediately            = true
  preferred_maintenance_window = var.aurora.maintenance_window
  # A restart interrupts runs: versions change when `engine_version` does
  auto_minor_version_upgrade = false
}
