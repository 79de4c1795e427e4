# Two images: `platform` (Dagster code location, run and step pods, MLflow server) and `predictor` (no Dagster, no torch).
#   docker build --target platform  -t mlops-assets .
#   docker build --target predictor -t mlops-predictor .
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
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="mlops-predictor" \
      org.opencontainers.image.description="Serves one digest-checked ONNX model over KServe's V1 and V2 protocols" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=predictor-packages /opt/venv /opt/venv
COPY mlops_assets/__init__.py ./mlops_assets/
COPY mlops_assets/ml ./mlops_assets/ml
COPY mlops_assets/serving ./mlops_assets/serving
EXPOSE 8080
ENTRYPOINT ["python", "-m", "mlops_assets.serving.model_server"]

FROM runtime AS platform
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="mlops-assets" \
      org.opencontainers.image.description="Dagster code location, run and step pods, and the MLflow server" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV DAGSTER_HOME=/opt/dagster/home MLOPS_HOME=/var/lib/mlops MLFLOW_DISABLE_TELEMETRY=true
COPY --from=platform-packages /opt/venv /opt/venv
COPY pyproject.toml ./
COPY resources ./resources
COPY mlops_assets ./mlops_assets
EXPOSE 3030
CMD ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "3030", "-m", "mlops_assets.definitions"]
