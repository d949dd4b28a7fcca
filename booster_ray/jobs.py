"""``python -m booster_ray.jobs CONFIG [key=value …]``: a sweep on a running Ray cluster."""

import sys

from booster_ray.cli import guarded
from booster_ray.deploy.jobs.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
