"""``python -m booster_ray.track NAME``: tell the trackers what they have not got yet."""

import sys

from booster_ray.cli import guarded
from booster_ray.track.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
