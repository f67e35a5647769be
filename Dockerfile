# One image for every part: driver, Ray head and workers, submitter, TensorBoard, data preparation. `make image` builds it.
#
# BASE_IMAGE: a Debian 12 with or without a Python of its own. EXTRA: cpu, or gpu for NVIDIA's libraries.
# pip's index comes from the build argument PIP_INDEX_URL or the secret pip_conf, its certificates from the secret
# ca_bundle. They are used in stages that the image does not contain, so neither a layer nor the history knows them.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# What changes least comes first: system packages, locked packages, NVIDIA's libraries, annlib.
FROM ${BASE_IMAGE} AS system
# Versions are the base image's distribution's. wget is for the probes that KubeRay gives to Ray Serve, and for those
# it gives to clusters whose rayVersion it is not told.
# hadolint ignore=DL3008,SC2016
RUN set -eu; \
    python=; command -v python3 >/dev/null || python=python3; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      bash ca-certificates dataset-fashion-mnist graphviz tini wget ${python}; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log /var/log/alternatives.log; \
    groupadd --gid 1000 annlib; \
    useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash annlib; \
    # A login shell sets PATH anew; KubeRay uses one where its ENABLE_LOGIN_SHELL is set.
    echo 'PATH=/opt/annlib/venv/bin:$PATH' > /etc/profile.d/annlib.sh

FROM system AS packages
ARG PIP_INDEX_URL
WORKDIR /build
# hadolint ignore=DL3008
RUN set -eu; \
    if ! python3 -c 'import ensurepip' 2>/dev/null; then \
      apt-get update; \
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv; \
      rm -rf /var/lib/apt/lists/*; \
    fi; \
    python3 -m venv /opt/annlib/venv; \
    # Last on the path, so that code which travels with a job goes before the image's.
    site=$(/opt/annlib/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
    echo /opt/annlib/app > "${site}/annlib.pth"
COPY requirements.lock ./
# TensorFlow's headers (430 MB) serve only those who compile operators.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/run/secrets/ca_bundle \
    set -eu; \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    /opt/annlib/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary=:all: -r requirements.lock; \
    /opt/annlib/venv/bin/pip check; \
    rm -rf /opt/annlib/venv/lib/python3*/site-packages/tensorflow/include

# The gpu extra's packages go into a directory of their own, so that both images share the layer of the packages above.
FROM packages AS extra
ARG EXTRA=cpu
ARG PIP_INDEX_URL
COPY requirements-gpu.lock ./
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/run/secrets/ca_bundle \
    set -eu; \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    mkdir -p /opt/annlib/extra; \
    case "${EXTRA}" in \
      cpu) ;; \
      gpu) \
        site=$(/opt/annlib/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
        /opt/annlib/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
          --require-hashes --only-binary=:all: --no-deps -r /build/requirements-gpu.lock \
          --target "/opt/annlib/extra${site#/opt/annlib/venv}" ;; \
      *) echo "EXTRA is wrong; expected cpu or gpu, received '${EXTRA}'; correct --build-arg EXTRA" >&2; exit 2 ;; \
    esac

FROM system AS app
WORKDIR /opt/annlib/app
COPY LICENSE pyproject.toml ./
COPY annlib annlib
COPY jobs jobs
# The modes are the same whatever the umask of the checkout. Bytecode is made here: nothing can be written later.
RUN set -eu; chmod -R u=rwX,go=rX .; python3 -m compileall -q annlib jobs

FROM system
COPY --from=packages /opt/annlib/venv /opt/annlib/venv
COPY --from=extra /opt/annlib/extra /opt/annlib/venv
COPY --from=app /opt/annlib/app /opt/annlib/app
# HOME is /tmp, because that is what can be written when the root file system cannot. USER in the environment is for
# user ids without an entry in /etc/passwd.
ENV PATH=/opt/annlib/venv/bin:${PATH} \
    HOME=/tmp \
    USER=annlib \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="annlib" \
      org.opencontainers.image.description="Trains Keras 3 models the same on one machine and on a Ray cluster" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /opt/annlib/app
USER 1000:1000
# Signals reach the program and dead children are reaped also where it is process 1. KubeRay replaces the entry point.
ENTRYPOINT ["tini", "--"]
CMD ["python", "jobs/train.py", "--list"]
