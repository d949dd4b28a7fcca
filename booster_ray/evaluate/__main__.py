"""``python -m booster_ray.evaluate TARGET``: official scores, all three tasks."""

import sys

from booster_ray.cli import guarded
from booster_ray.evaluate.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:]), answers=True))
