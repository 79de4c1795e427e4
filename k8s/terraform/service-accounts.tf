# A role for each kind of pod, which its service accounts take on by their token (IRSA). The overlays and helm-values name them.

locals {
  service_accounts = {
    # Code location and daemon
    control = ["${local.name}:dagster"]
    # Both webservers
    webserver = ["${local.name}:dagster-webserver", "${local.name}:dagster-webserver-read-only"]
    # Run pods, step pods and workers
    pipeline         = [for account in ["dagster-run", "dagster-step", "dagster-trainer"] : "${local.name}:${account}"]
    deployer         = ["${local.name}:dagster-deployer"]
    exporter         = ["${local.name}:exporter"]
    mlflow           = ["${local.name}:mlflow"]
    predictor        = ["${local.name}:predictor"]
    external-secrets = ["${local.name}:external-secrets"]
    workflows        = ["${local.name}:argo-workflow"]
    karpenter        = ["kube-system:karpenter"]
    ebs-csi          = ["kube-system:ebs-csi-controller-sa"]
  }

  # What each may do below which prefixes of the bucket; `never` are those of them that it may not change, and to `add` is to
  # write without reading, listing or deleting
  prefixes = {
    # Schedules and sensors read the lake, and what they print is kept. Which retrains they begin is written down.
    control = { write = ["compute-logs", "lake/retrains"], read = ["lake"], never = [], add = [] }
    # They show what steps have printed
    webserver = { write = [], read = ["compute-logs"], never = [], add = [] }
    # MLflow's clients write artifacts themselves. What predictors load, and to whom they hand requests over, is put there by
    # the deployment alone.
    pipeline = { write = ["lake", "mlflow", "compute-logs"], read = [], never = ["lake/served", "lake/traffic"], add = [] }
    deployer = { write = ["lake", "mlflow", "compute-logs"], read = [], never = [], add = [] }
    # Figures of ledgers and drift reports
    exporter = { write = [], read = ["lake"], never = [], add = [] }
    # The server shows artifacts in its UI
    mlflow = { write = [], read = ["mlflow"], never = [], add = [] }
    # Outsiders call them, so of the lake they see the models that are served, and no data
    predictor = {
      write = [], read = ["lake/served", "lake/traffic"], never = [], add = ["lake/inference", "lake/labels", "lake/observed"]
    }
    workflows = { write = ["argo"], read = [], never = [], add = [] }
  }

  issuer = trimprefix(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://")
}

data "aws_iam_policy_document" "service_account_trust" {
  for_each = local.service_accounts

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [for account in each.value : "system:serviceaccount:${account}"]
    }
  }
}

resource "aws_iam_role" "service_account" {
  for_each           = local.service_accounts
  name               = "${local.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.service_account_trust[each.key].json
}

data "aws_iam_policy_document" "bucket_access" {
  for_each = local.prefixes

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    # The lake asks for objects that may not be there yet. With a condition on the prefix S3 answers 403 to that, and not 404.
    dynamic "condition" {
      for_each = contains(concat(each.value.write, each.value.read), "lake") ? [] : [concat(each.value.write, each.value.read)]
      content {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = flatten([for prefix in condition.value : [prefix, "${prefix}/*"]])
      }
    }
  }

  statement {
    sid       = "Read"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = [for prefix in concat(each.value.write, each.value.read) : "${local.bucket_arn}/${prefix}/*"]
  }

  dynamic "statement" {
    for_each = length(each.value.write) > 0 ? [each.value.write] : []
    content {
      sid = "Write"
      # Older versions stay out of reach: who deletes here deletes nothing for good
      actions   = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
      resources = [for prefix in statement.value : "${local.bucket_arn}/${prefix}/*"]
    }
  }

  dynamic "statement" {
    for_each = length(each.value.add) > 0 ? [each.value.add] : []
    content {
      sid       = "Add"
      actions   = ["s3:PutObject"]
      resources = [for prefix in statement.value : "${local.bucket_arn}/${prefix}/*"]
    }
  }

  dynamic "statement" {
    for_each = length(each.value.never) > 0 ? [each.value.never] : []
    content {
      sid       = "LeaveToOthers"
      effect    = "Deny"
      actions   = ["s3:PutObject", "s3:DeleteObject"]
      resources = [for prefix in statement.value : "${local.bucket_arn}/${prefix}/*"]
    }
  }

  # The job lake_retention deletes by the role that writes; the record of who moved an alias and why is out of its reach.
  # That no entry is overwritten is said by the bucket's policy.
  dynamic "statement" {
    for_each = contains(each.value.write, "lake") ? [local.ledgers] : []
    content {
      sid       = "KeepLedgers"
      effect    = "Deny"
      actions   = ["s3:DeleteObject"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value.write, "lake") && length(var.source_bucket_arns) > 0 ? [var.source_bucket_arns] : []
    content {
      sid       = "ReadSources"
      actions   = ["s3:ListBucket", "s3:GetObject", "s3:GetObjectVersion"]
      resources = flatten([for arn in statement.value : [arn, "${arn}/*"]])
    }
  }

  # The sensor `retrain` looks whether there is new data
  dynamic "statement" {
    for_each = each.key == "control" && length(var.source_bucket_arns) > 0 ? [var.source_bucket_arns] : []
    content {
      sid       = "ListSources"
      actions   = ["s3:ListBucket"]
      resources = statement.value
    }
  }
}

resource "aws_iam_role_policy" "bucket_access" {
  for_each = local.prefixes
  name     = "bucket"
  role     = aws_iam_role.service_account[each.key].id
  policy   = data.aws_iam_policy_document.bucket_access[each.key].json
}

# One environment's secrets, and none of what RDS or others keep there
data "aws_iam_policy_document" "secrets_access" {
  statement {
    actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    resources = ["arn:${local.partition}:secretsmanager:${var.region}:${local.account}:secret:${local.name}/*"]
  }
}

resource "aws_iam_role_policy" "secrets_access" {
  name   = "secrets"
  role   = aws_iam_role.service_account["external-secrets"].id
  policy = data.aws_iam_policy_document.secrets_access.json
}

resource "aws_iam_role_policy_attachment" "ebs_csi" {
  role       = aws_iam_role.service_account["ebs-csi"].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
}
