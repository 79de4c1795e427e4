"""The labels, annotations and tags by which this project, Dagster and Karpenter know things in a cluster."""

MODEL = "mlops.dev/model"
STAGE = "mlops.dev/stage"
OWNER = "mlops.dev/owner"
VERSION = "mlops.dev/version"
SHA256 = "mlops.dev/sha256"
ARTIFACT = "mlops.dev/artifact"
SPEC_SHA256 = "mlops.dev/spec-sha256"
LOG_POLICY = "mlops.dev/log-policy"  # what is kept of its requests, as JSON
EXPLAIN = "mlops.dev/explain"  # whether its answers are explained
SERVICE = "mlops.dev/service"  # how its service is laid out, as JSON
USES_POSTGRES = "mlops.dev/uses-postgres"  # by which network policies know who may reach the databases
POD_POLICY = "mlops.dev/pod"  # op tag: a PodPolicy for the executor

RUN_ID = "dagster/run-id"
OP = "dagster/op"
COMPONENT = "app.kubernetes.io/component"
RUN_WORKER = "run_worker"
STEP_WORKER = "step_worker"
TRAINING_WORKER = "training_worker"

GPU = "nvidia.com/gpu"
POOL = "mlops.dev/pool"  # of nodes: `cpu` or `gpu`, set by each of their NodePools
SPOT_TAINT = "mlops.dev/spot"  # of CPU nodes that may be taken away; steps that can be repeated tolerate it
CAPACITY_TYPE = "karpenter.sh/capacity-type"
DO_NOT_DISRUPT = {"karpenter.sh/do-not-disrupt": "true"}
INSTANCE_FAMILY = "karpenter.k8s.aws/instance-family"
# Of k8s/base/security; their names have the environment's prefix before them
PRIORITY_OF_SERVING = "mlops-serving"
PRIORITY_OF_STEPS = "mlops-training"
ZONE = "topology.kubernetes.io/zone"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
