"""``python -m booster_ray.gates CHECKPOINT``: the three verification gates."""

import sys

from booster_ray.cli import guarded
from booster_ray.evaluate.gates.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:]), answers=True))
