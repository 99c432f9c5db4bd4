# One process that serves HiTree over gRPC (50051) and HTTP (3000).
#
#   docker build -t hitree .                              on a CPU
#   docker build -t hitree:gpu --build-arg VARIANT=gpu .  on an NVIDIA GPU
ARG VARIANT=cpu

# ---- wheels: the project and its default bundle ------------------------------------------------
FROM python:3.12-slim AS wheels
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY training training
COPY export export
COPY server server
COPY sdk sdk
COPY bundle bundle
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . ./bundle

# ---- what the variants stand on ----------------------------------------------------------------
FROM python:3.12-slim AS base-cpu

# Brings CUDA 13 and cuDNN 9, which onnxruntime-gpu 1.31 from PyPI is built for.
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS base-gpu
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*

# ---- install: an environment without pip, made where it will run -------------------------------
FROM base-${VARIANT} AS install
ARG VARIANT
RUN if [ "$VARIANT" = gpu ]; then \
      apt-get update && apt-get install -y --no-install-recommends python3-venv; \
    fi
COPY --from=wheels /wheels /wheels
RUN case "$VARIANT" in cpu) extra=server ;; gpu) extra=server-gpu ;; esac \
 && python3 -m venv /opt/hitree \
 && /opt/hitree/bin/pip install --no-cache-dir \
      /wheels/hitree_bundle-*.whl "$(echo /wheels/hitree-*.whl)[$extra]" \
 && /opt/hitree/bin/pip uninstall -y pip

# ---- the image ---------------------------------------------------------------------------------
FROM base-${VARIANT}
COPY --from=install /opt/hitree /opt/hitree
RUN useradd --uid 10001 --create-home hitree
USER 10001:10001
WORKDIR /home/hitree
ENV PATH=/opt/hitree/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HITREE_HOST=0.0.0.0
EXPOSE 50051 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/opt/hitree/bin/python", "-c", \
  "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('HITREE_HTTP_PORT', '3000') + '/readyz', timeout=2)"]
CMD ["hitree", "serve"]
