"""``python -m booster_ray.export CHECKPOINT``: the submission package."""

import sys

from booster_ray.cli import guarded
from booster_ray.evaluate.export_command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
