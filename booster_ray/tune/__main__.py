"""``python -m booster_ray.tune CONFIG [key=value …]``, ``--resume NAME``: a sweep."""

import sys

from booster_ray.cli import guarded
from booster_ray.tune.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
