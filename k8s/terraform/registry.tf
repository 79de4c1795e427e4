# Images. A tag means one image for ever, which is what run pods, step pods and predictors rely on.

locals {
  # alpine is what workers wait with, see k8s/training-operator; the rest is ours
  images   = ["mlops-platform", "mlops-trainer", "mlops-predictor", "alpine"]
  registry = "${local.account}.dkr.ecr.${var.region}.${data.aws_partition.current.dns_suffix}"
}

resource "aws_ecr_repository" "this" {
  for_each             = var.create_repositories ? toset(local.images) : []
  name                 = each.value
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.deletion_protection

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each   = aws_ecr_repository.this
  repository = each.value.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      # Tagged ones stay: a champion may run for years
      description = "Layers of builds that were never tagged"
      selection   = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
      action      = { type = "expire" }
    }]
  })
}
