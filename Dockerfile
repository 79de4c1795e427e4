# Three images:
# platform    Dagster's code location, daemon, webservers, run pods, MLflow, and all step pods that need no torch
# trainer     the platform's packages, and torch with CUDA: step pods and workers that train networks
# predictor   serves models: no Dagster, no torch
#   docker build --target platform  -t mlops-platform .
#   docker build --target trainer   -t mlops-trainer .
#   docker build --target predictor -t mlops-predictor .
# A tag may be moved; docs/production/images.md says how to give BASE by digest.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS builder
ARG UV_VERSION=0.13.9
# Byte code is tied to its source by a hash, not by a time that differs from build to build; nobody edits an image's sources
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never PYC_INVALIDATION_MODE=UNCHECKED_HASH
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}" && python3 -m venv --without-pip /opt/venv
WORKDIR /opt/build

FROM builder AS platform-packages
COPY images/platform.lock ./
RUN /opt/uv/bin/uv pip sync --quiet --python /opt/venv/bin/python --require-hashes --compile-bytecode platform.lock

# Into a folder of its own, so that the trainer's layer holds what the platform has not, and nothing twice
FROM builder AS trainer-packages
COPY images/trainer.lock ./
RUN /opt/uv/bin/uv pip sync --quiet --python /opt/venv/bin/python --prefix /opt/torch --require-hashes --compile-bytecode trainer.lock

FROM builder AS predictor-packages
COPY images/predictor.lock ./
RUN /opt/uv/bin/uv pip sync --quiet --python /opt/venv/bin/python --require-hashes --compile-bytecode predictor.lock

# hadolint ignore=DL3006
FROM ${BASE} AS runtime
RUN groupadd --gid 10001 mlops && useradd --uid 10001 --gid mlops --no-create-home --home-dir /tmp mlops
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/mlops PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /opt/mlops
USER 10001:10001

FROM runtime AS predictor
COPY --from=predictor-packages /opt/venv /opt/venv
COPY mlops_assets/__init__.py ./mlops_assets/
COPY mlops_assets/ml ./mlops_assets/ml
COPY mlops_assets/serving ./mlops_assets/serving
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="mlops-predictor" \
      org.opencontainers.image.description="Serves one digest-checked ONNX model over KServe's V1 and V2 protocols" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
EXPOSE 8080
ENTRYPOINT ["python", "-m", "mlops_assets.serving.model_server"]

FROM scratch AS code
COPY pyproject.toml /
COPY resources /resources
COPY mlops_assets /mlops_assets

# What platform and trainer have in common lies below, and code on top: a node that has one of them, or their last version, need not
# unpack packages again
FROM runtime AS dagster
ENV DAGSTER_HOME=/opt/dagster/home MLOPS_HOME=/var/lib/mlops MLFLOW_DISABLE_TELEMETRY=true
COPY --from=platform-packages /opt/venv /opt/venv
EXPOSE 3030
CMD ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "3030", "-m", "mlops_assets.definitions"]

FROM dagster AS platform
COPY --from=code / ./
ARG VERSION=0.1.0 REVISION=unknown
ENV MLOPS_REVISION=${REVISION}
LABEL org.opencontainers.image.title="mlops-platform" \
      org.opencontainers.image.description="Dagster code location, run and step pods, and the MLflow server; no torch" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM dagster AS trainer
COPY --from=trainer-packages /opt/torch /opt/venv
COPY --from=code / ./
ARG VERSION=0.1.0 REVISION=unknown
ENV MLOPS_REVISION=${REVISION}
LABEL org.opencontainers.image.title="mlops-trainer" \
      org.opencontainers.image.description="The platform with torch and CUDA, for pods that train networks" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
