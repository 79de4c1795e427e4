# Roles of nodes. They pull images and join the cluster; pods have roles of their own.

locals {
  node_roles = {
    # Nodes that Karpenter makes; the EC2NodeClasses name it
    karpenter = "${local.name}-node"
    # The managed group has another one, because EKS makes an access entry for it by itself
    system = "${local.name}-system-node"
  }
  node_policies = [
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
    # A shell on a node without SSH and its keys
    "AmazonSSMManagedInstanceCore",
  ]
}

resource "aws_iam_role" "node" {
  for_each           = local.node_roles
  name               = each.value
  assume_role_policy = data.aws_iam_policy_document.node_trust.json
}

data "aws_iam_policy_document" "node_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = {
    for pair in setproduct(keys(local.node_roles), local.node_policies) : join("-", pair) => { role = pair[0], policy = pair[1] }
  }
  role       = aws_iam_role.node[each.value.role].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value.policy}"
}

# For clusters without a way out: IAM has no VPC endpoint in most regions, so there Karpenter cannot make profiles by itself
resource "aws_iam_instance_profile" "node" {
  name = local.node_roles.karpenter
  role = aws_iam_role.node["karpenter"].name
}

# Lets Karpenter's nodes join. With a way out Karpenter makes the role's instance profiles by itself.
resource "aws_eks_access_entry" "node" {
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_iam_role.node["karpenter"].arn
  type          = "EC2_LINUX"
}
