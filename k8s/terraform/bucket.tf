# The lake, MLflow's artifacts, compute logs and Argo's artifacts: one bucket, a prefix for each

locals {
  bucket = "${local.name}-${local.account}"
  # Known before the bucket is made, so that a plan shows what the policies will say
  bucket_arn = "arn:${local.partition}:s3:::${local.bucket}"
  ledgers    = "${local.bucket_arn}/lake/*/ledger/*"
}

resource "aws_s3_bucket" "this" {
  bucket        = local.bucket
  force_destroy = !var.deletion_protection
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    # S3's own key: a KMS key would cost a request for each of the lake's many small objects
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.bucket_arn, "${local.bucket_arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # An entry is created where there is none, by `If-None-Match: *`, and never replaced, whoever asks
  statement {
    sid       = "LedgersAreAppendedOnly"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = [local.ledgers]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = data.aws_iam_policy_document.bucket.json

  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "compute-logs"
    status = "Enabled"

    filter {
      prefix = "compute-logs/"
    }
    expiration {
      days = var.compute_log_days
    }
    # A step's log is uploaded anew every ten seconds while it grows: ten hours would leave 3,600 versions for a month
    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  # One a minute, gigabytes each, of which two are kept: a training would leave a terabyte for a month
  rule {
    id     = "checkpoints"
    status = "Enabled"

    filter {
      prefix = "lake/checkpoints/"
    }
    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  # What was overwritten or deleted can be had back for a month
  rule {
    id     = "old-versions"
    status = "Enabled"

    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
    expiration {
      expired_object_delete_marker = true
    }
  }

  # A pod that is killed while it uploads leaves parts that nobody sees and everybody pays
  rule {
    id     = "aborted-uploads"
    status = "Enabled"

    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
