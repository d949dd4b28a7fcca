#!/usr/bin/env bash
# The last resort, where cluster libraries cannot be used: put it and requirements/cuda12.lock into
# a volume, and name it as the cluster's init script (README.md). Runs as root on every node before
# Spark starts; what it prints is in the cluster's log folder.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
/databricks/python/bin/pip install --no-cache-dir --require-hashes \
    --requirement "$here/cuda12.lock"
# Films are drawn without a display.
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends libegl1 libosmesa6
