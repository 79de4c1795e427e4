# What Karpenter 1.14 may do: make, tag and end instances that carry this cluster's tags, and read what there is

locals {
  ec2       = "arn:${local.partition}:ec2:${var.region}"
  owned_key = "kubernetes.io/cluster/${local.name}"
}

data "aws_iam_policy_document" "karpenter" {
  statement {
    sid     = "LaunchFromWhatExists"
    actions = ["ec2:RunInstances", "ec2:CreateFleet"]
    resources = [
      "${local.ec2}::image/*",
      "${local.ec2}::snapshot/*",
      "${local.ec2}:*:security-group/*",
      "${local.ec2}:*:subnet/*",
      "${local.ec2}:*:capacity-reservation/*",
      "${local.ec2}:*:placement-group/*",
    ]
  }

  statement {
    sid       = "LaunchFromOwnTemplates"
    actions   = ["ec2:RunInstances", "ec2:CreateFleet"]
    resources = ["${local.ec2}:*:launch-template/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.owned_key}"
      values   = ["owned"]
    }
    condition {
      test     = "StringLike"
      variable = "aws:ResourceTag/karpenter.sh/nodepool"
      values   = ["*"]
    }
  }

  statement {
    sid       = "LaunchWithTags"
    actions   = ["ec2:RunInstances", "ec2:CreateFleet", "ec2:CreateLaunchTemplate"]
    resources = [for kind in local.karpenter_makes : "${local.ec2}:*:${kind}/*"]

    dynamic "condition" {
      for_each = local.request_tags
      content {
        test     = condition.value.test
        variable = condition.key
        values   = [condition.value.value]
      }
    }
  }

  statement {
    sid       = "TagWhatIsLaunched"
    actions   = ["ec2:CreateTags"]
    resources = [for kind in local.karpenter_makes : "${local.ec2}:*:${kind}/*"]

    dynamic "condition" {
      for_each = local.request_tags
      content {
        test     = condition.value.test
        variable = condition.key
        values   = [condition.value.value]
      }
    }
    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["RunInstances", "CreateFleet", "CreateLaunchTemplate"]
    }
  }

  statement {
    sid       = "NameOwnInstances"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:*:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.owned_key}"
      values   = ["owned"]
    }
    condition {
      test     = "StringLike"
      variable = "aws:ResourceTag/karpenter.sh/nodepool"
      values   = ["*"]
    }
    condition {
      test     = "StringEqualsIfExists"
      variable = "aws:RequestTag/eks:eks-cluster-name"
      values   = [local.name]
    }
    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws:TagKeys"
      values   = ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"]
    }
  }

  statement {
    sid       = "EndOwnInstances"
    actions   = ["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"]
    resources = ["${local.ec2}:*:instance/*", "${local.ec2}:*:launch-template/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.owned_key}"
      values   = ["owned"]
    }
    condition {
      test     = "StringLike"
      variable = "aws:ResourceTag/karpenter.sh/nodepool"
      values   = ["*"]
    }
  }

  statement {
    sid = "ReadRegion"
    actions = [
      "ec2:DescribeCapacityReservations",
      "ec2:DescribeImages",
      "ec2:DescribeInstances",
      "ec2:DescribeInstanceStatus",
      "ec2:DescribeInstanceTypeOfferings",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribePlacementGroups",
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeSpotPriceHistory",
      "ec2:DescribeSubnets",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  statement {
    sid       = "ReadImageIds"
    actions   = ["ssm:GetParameter"]
    resources = ["arn:${local.partition}:ssm:${var.region}::parameter/aws/service/*"]
  }

  # Neither can be narrowed to a resource
  statement {
    sid       = "ReadPricesAndProfiles"
    actions   = ["pricing:GetProducts", "iam:ListInstanceProfiles"]
    resources = ["*"]
  }

  statement {
    sid       = "ReadCluster"
    actions   = ["eks:DescribeCluster"]
    resources = [aws_eks_cluster.this.arn]
  }

  statement {
    sid       = "ReadInterruptions"
    actions   = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
    resources = [aws_sqs_queue.interruption.arn]
  }

  statement {
    sid       = "GiveNodesTheirRole"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.node["karpenter"].arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }

  statement {
    sid       = "MakeInstanceProfiles"
    actions   = ["iam:CreateInstanceProfile", "iam:TagInstanceProfile"]
    resources = [local.instance_profiles]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.owned_key}"
      values   = ["owned"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/eks:eks-cluster-name"
      values   = [local.name]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/topology.kubernetes.io/region"
      values   = [var.region]
    }
    condition {
      test     = "StringLike"
      variable = "aws:RequestTag/karpenter.k8s.aws/ec2nodeclass"
      values   = ["*"]
    }
    # Tagging: a profile of this cluster only. Making one: there are no tags yet.
    condition {
      test     = "StringEqualsIfExists"
      variable = "aws:ResourceTag/${local.owned_key}"
      values   = ["owned"]
    }
  }

  statement {
    sid       = "ChangeOwnInstanceProfiles"
    actions   = ["iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile"]
    resources = [local.instance_profiles]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.owned_key}"
      values   = ["owned"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/topology.kubernetes.io/region"
      values   = [var.region]
    }
    condition {
      test     = "StringLike"
      variable = "aws:ResourceTag/karpenter.k8s.aws/ec2nodeclass"
      values   = ["*"]
    }
  }

  statement {
    sid       = "ReadInstanceProfiles"
    actions   = ["iam:GetInstanceProfile"]
    resources = [local.instance_profiles]
  }
}

locals {
  karpenter_makes   = ["fleet", "instance", "volume", "network-interface", "launch-template", "spot-instances-request"]
  instance_profiles = "arn:${local.partition}:iam::${local.account}:instance-profile/*"
  request_tags = {
    "aws:RequestTag/${local.owned_key}"    = { test = "StringEquals", value = "owned" }
    "aws:RequestTag/eks:eks-cluster-name"  = { test = "StringEquals", value = local.name }
    "aws:RequestTag/karpenter.sh/nodepool" = { test = "StringLike", value = "*" }
  }
}

# A managed policy: it is too long to stand inside a role
resource "aws_iam_policy" "karpenter" {
  name   = "${local.name}-karpenter"
  policy = data.aws_iam_policy_document.karpenter.json
}

resource "aws_iam_role_policy_attachment" "karpenter" {
  role       = aws_iam_role.service_account["karpenter"].name
  policy_arn = aws_iam_policy.karpenter.arn
}

# Needed once in an account before the first spot instance; false where it exists already
resource "aws_iam_service_linked_role" "spot" {
  count            = var.create_spot_role ? 1 : 0
  aws_service_name = "spot.amazonaws.com"
}
