terraform {
  # Write-only arguments: generated passwords reach Secrets Manager and never the state
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  # The namespace, the roles' prefix, the tag that Karpenter looks for and the prefix of secrets are all this name
  name      = "mlops-${var.environment}"
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  tags      = merge(var.tags, { project = "mlops-assets", environment = var.environment })
}
