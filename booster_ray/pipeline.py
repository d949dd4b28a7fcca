"""``python -m booster_ray.pipeline STAGE [PIPELINE] [key=value …]``: the whole way, in stages."""

import sys

from booster_ray.cli import guarded
from booster_ray.deploy.pipeline.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
