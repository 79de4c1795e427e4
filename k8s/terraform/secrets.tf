# Passwords that k8s/components/external-secrets brings into the cluster. They are generated while terraform runs and are
# neither in its state nor in a plan.

locals {
  passwords = toset(concat(
    ["dagster", "features", "mlflow", "mlflow-admin", "mlflow-client", "mlflow-session"],
    # The superuser of the server in the cluster; Aurora's is made by RDS
    var.aurora == null ? ["postgres"] : [],
  ))
  secrets = merge(
    {
      dagster-postgresql = { password = "dagster" }
      mlflow-database    = { password = "mlflow" }
      features-database  = { password = "features" }
      mlflow-auth        = { password = "mlflow-admin", secret_key = "mlflow-session" }
      # The pipeline's user, which manages what it makes and is no admin
      mlflow-client = { password = "mlflow-client" }
    },
    var.aurora == null ? { postgres = { password = "postgres" } } : {},
  )
  # Each database has two users. A new password is that of the other one, so that who is logged in goes on.
  databases = ["dagster-postgresql", "mlflow-database", "features-database"]
  turn      = var.database_secrets_version % 2 == 1 ? "a" : "b"
  # What stands beside the passwords
  plain = {
    dagster-postgresql = { username = "dagster_${local.turn}" }
    mlflow-database    = { host = local.database_host, username = "mlflow_${local.turn}" }
    features-database  = { host = local.database_host, username = "features_${local.turn}" }
    mlflow-auth        = { username = "admin" }
    mlflow-client      = { username = "pipeline" }
  }
  # The Service in the cluster where there is no Aurora
  database_host = var.aurora == null ? "postgres" : aws_rds_cluster.this[0].endpoint
}

ephemeral "aws_secretsmanager_random_password" "this" {
  for_each        = local.passwords
  password_length = 40
  # They stand in SQL, in URIs and in an ini file
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "this" {
  for_each                = local.secrets
  name                    = "${local.name}/${each.key}"
  recovery_window_in_days = var.deletion_protection ? 30 : 0
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each  = local.secrets
  secret_id = aws_secretsmanager_secret.this[each.key].id
  secret_string_wo = jsonencode(merge(
    lookup(local.plain, each.key, {}),
    { for key, password in each.value : key => ephemeral.aws_secretsmanager_random_password.this[password].random_password },
  ))
  secret_string_wo_version = contains(local.databases, each.key) ? var.database_secrets_version : var.secrets_version
}
