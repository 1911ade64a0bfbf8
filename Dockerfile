# syntax=docker/dockerfile:1
# One image for all roles: `fleet service worker POOL|beat|flower|ops`. It holds no local model.
# A build server may name the base by digest: --build-arg PYTHON=python:3.13-slim-bookworm@sha256:...
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
# Kinds of providers beside `openai`, such as: --build-arg EXTRAS=anthropic,google
ARG EXTRAS=""
WORKDIR /src
RUN python -m venv /opt/fleet
COPY requirements.txt ./
# Wheels alone: nothing is compiled, here or later.
RUN /opt/fleet/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile \
    --only-binary :all: --require-hashes --requirement requirements.txt
COPY setup.cfg pyproject.toml README.md ./
COPY fleet fleet
COPY workers workers
COPY beat_schedules beat_schedules
RUN /opt/fleet/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile \
    --no-deps --no-build-isolation .
COPY .ci/prune_image.py ./
# Also compiles what the processes import.
RUN /opt/fleet/bin/python prune_image.py --extras "${EXTRAS}"

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fleet" \
      org.opencontainers.image.description="Runs AI agents in production as a fleet of Celery workers." \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 1000 fleet \
    && useradd --uid 1000 --gid fleet --no-create-home --home-dir /tmp fleet \
    && install --directory --owner=fleet --group=fleet --mode=0700 /data
COPY --from=build /opt/fleet /opt/fleet
ENV PATH=/opt/fleet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    FLEET_DATA_DIR=/data
# The rest of the file system may be read-only.
VOLUME ["/data", "/tmp"]
WORKDIR /data
USER 1000:1000
# Workers and beat touch a file. The ops endpoint and Flower answer. This needs a shell.
# hadolint ignore=DL3025
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD \
    find /data/alive -type f -mmin -2 2>/dev/null | grep -q . \
    || python -m fleet.web.probe
ENTRYPOINT ["fleet"]
CMD ["--help"]
