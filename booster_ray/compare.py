"""``python -m booster_ray.compare A B …``: scores with a paired test, curves, configs."""

import sys

from booster_ray.cli import guarded
from booster_ray.tune.compare.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:]), answers=True))
