# syntax=docker/dockerfile:1
#
# One image for Ray (VMs, Kubernetes, Apptainer) and for Databricks container services:
#
#     docker build --target ray -t booster_ray .                 # not root
#     docker build --target databricks -t booster_ray:dbr .      # root, as Databricks wants it
#
# No code is in it: jobs bring theirs (cluster/submit), so that a change needs no new image.
# CUDA comes from the locked pip packages; of NVIDIA the host needs the driver (550 or newer) and
# its container toolkit.
#
# Ubuntu 24.04, Python 3.12 and JDK 17 are those of Databricks Runtime 16.4 LTS.
FROM ubuntu:24.04 AS base

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV LANG=C.UTF-8 LC_ALL=C.UTF-8 OPENSSL_FORCE_FIPS_MODE=0

# Databricks: bash, iproute2, coreutils, procps, sudo, acl, a JDK, and Python in a virtual
# environment at /databricks/python3. Ray: wget (KubeRay's probes), rsync and ssh (its launcher).
# Films: EGL and OSMesa. The versions are those of the release: security updates are wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        acl bash build-essential ca-certificates coreutils curl git iproute2 libegl1 libgl1 \
        libgles2 libosmesa6 openjdk-17-jdk-headless openssh-client procps python3.12 \
        python3.12-dev python3.12-venv rsync sudo tini tzdata wget \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /tmp/* /var/tmp/*

# Databricks installs a cluster's libraries as this user, who cannot log in.
RUN useradd libraries && usermod --lock libraries

ENV VIRTUAL_ENV=/databricks/python3
ENV PATH=/databricks/python3/bin:$PATH \
    PYSPARK_PYTHON=/databricks/python3/bin/python3 \
    JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64
COPY requirements/cuda12.lock /databricks/cuda12.lock
RUN python3.12 -m venv --system-site-packages "$VIRTUAL_ENV" \
    && "$VIRTUAL_ENV/bin/pip" install --no-cache-dir --require-hashes \
        --requirement /databricks/cuda12.lock

# What the container toolkit lends of the driver; `graphics` is for EGL.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    MUJOCO_GL=egl \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0
COPY --chmod=755 cluster/image/healthcheck /usr/local/bin/healthcheck
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s --retries=3 \
    CMD ["/usr/local/bin/healthcheck"]

# Databricks starts its own processes in the container, as root.
FROM base AS databricks
# hadolint ignore=DL3002
USER 0
CMD ["/bin/bash"]

FROM base AS ray
# 1000 is Ubuntu's own user; KubeRay's examples run as it too.
RUN usermod --login ray --home /home/ray --move-home ubuntu && groupmod --new-name ray ubuntu
USER 1000
WORKDIR /home/ray
ENV HOME=/home/ray
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["/bin/bash"]
