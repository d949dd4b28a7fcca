"""``python -m booster_ray.train CONFIG [key=value …]``: one run of one stage, no sweep."""

import sys

from booster_ray.cli import guarded
from booster_ray.train.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
