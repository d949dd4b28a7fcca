"""``python -m booster_ray.data record | convert | info``: demonstrations as Minari datasets."""

import sys

from booster_ray.cli import guarded
from booster_ray.data.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
