"""Labels and annotations that this project puts on objects of Kubernetes."""

# What an object belongs to; costs and dashboards group by them
MODEL = "mlops.dev/model"
STAGE = "mlops.dev/stage"
OWNER = "mlops.dev/owner"

# What a model's service serves
VERSION = "mlops.dev/version"
SHA256 = "mlops.dev/sha256"
ARTIFACT = "mlops.dev/artifact"

# On an asset: how its pod is retried and diagnosed, as JSON
POD_POLICY = "mlops.dev/pod"
