# One target for each service, and one for the migration of the database:
#
#   docker build --target api -t headrace-api .        (api, ingest, process, recover, migrate; BuildKit)
#
# An image holds Python, the packages of that service's own extra (requirements/<target>.lock, every file's hash checked)
# and the folders it imports, compiled; no compiler, no test, no embedded server, and no pip among the packages (the base has one; nothing runs it). It runs as a numeric user
# without rights, from a read-only root file system: only /tmp is written, by `process` alone.
#
# The base is pinned to a patch release; pin it to what you have reviewed with
# --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# --- what every image runs on -----------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS runtime
# Bytecode is made in the builder: at run time nothing can be written, and a cold start does not wait for it.
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 \
    TMPDIR=/tmp \
    GRPC_ENABLE_FORK_SUPPORT=0 \
    PYDANTIC_DISABLE_PLUGINS=__all__
WORKDIR /app
USER 65532:65532
STOPSIGNAL SIGTERM

FROM runtime AS service
ENV HTTP_HOST=0.0.0.0 \
    PORT=8080
EXPOSE 8080
# For engines that look at it; Cloud Run has probes of its own, on the same path.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/livez', timeout=4)"]

# --- how every image is made ------------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
RUN ["python", "-m", "venv", "--without-pip", "/venv"]

FROM builder AS build-api
COPY requirements/api.lock /requirements.lock
RUN ["python", "-m", "pip", "--python", "/venv/bin/python", "install", "--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", "/requirements.lock"]
COPY shared /app/shared
COPY services/__init__.py /app/services/__init__.py
COPY services/api /app/services/api
RUN ["/venv/bin/python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/venv/lib", "/app"]

FROM builder AS build-ingest
COPY requirements/ingest.lock /requirements.lock
RUN ["python", "-m", "pip", "--python", "/venv/bin/python", "install", "--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", "/requirements.lock"]
COPY shared /app/shared
COPY services/__init__.py /app/services/__init__.py
COPY services/ingest /app/services/ingest
RUN ["/venv/bin/python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/venv/lib", "/app"]

FROM builder AS build-process
COPY requirements/process.lock /requirements.lock
RUN ["python", "-m", "pip", "--python", "/venv/bin/python", "install", "--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", "/requirements.lock"]
COPY shared /app/shared
COPY services/__init__.py /app/services/__init__.py
COPY services/process /app/services/process
# olefile carries a copy of itself for Python 2, which nothing imports and Python 3 cannot compile.
RUN ["/venv/bin/python", "-m", "compileall", "-q", "-x", "olefile2", "-j", "0", "--invalidation-mode", "unchecked-hash", "/venv/lib", "/app"]

FROM builder AS build-recover
COPY requirements/recover.lock /requirements.lock
RUN ["python", "-m", "pip", "--python", "/venv/bin/python", "install", "--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", "/requirements.lock"]
COPY shared /app/shared
COPY services/__init__.py /app/services/__init__.py
COPY services/recover /app/services/recover
RUN ["/venv/bin/python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/venv/lib", "/app"]

FROM builder AS build-migrate
COPY requirements/migrate.lock /requirements.lock
RUN ["python", "-m", "pip", "--python", "/venv/bin/python", "install", "--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", "/requirements.lock"]
COPY shared /app/shared
RUN ["/venv/bin/python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/venv/lib", "/app"]

# --- the images -------------------------------------------------------------------------------------------------------

FROM service AS api
COPY --from=build-api /venv /venv
COPY --from=build-api /app /app
CMD ["python", "-m", "services.api"]

FROM service AS ingest
COPY --from=build-ingest /venv /venv
COPY --from=build-ingest /app /app
CMD ["python", "-m", "services.ingest"]

# Its files in work lie in /tmp (TEMP_DIR moves them): mount memory or a disk there, larger than MAX_OBJECT_BYTES times
# PROCESS_CONCURRENCY.
FROM service AS process
COPY --from=build-process /venv /venv
COPY --from=build-process /app /app
CMD ["python", "-m", "services.process"]

# `python -m services.recover --once` makes one run and ends: what a job, or a person, starts.
FROM service AS recover
COPY --from=build-recover /venv /venv
COPY --from=build-recover /app /app
CMD ["python", "-m", "services.recover"]

# Runs as the owner of the tables and ends.
FROM runtime AS migrate
COPY --from=build-migrate /venv /venv
COPY --from=build-migrate /app /app
HEALTHCHECK NONE
CMD ["python", "-m", "shared.postgres.migrate"]
