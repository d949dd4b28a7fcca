"""``python -m booster_ray.view CHECKPOINT|RUN|PACKAGE [SECOND]``: policies in the browser."""

import sys

from booster_ray.cli import guarded
from booster_ray.evaluate.viewer.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
