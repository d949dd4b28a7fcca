"""``python -m booster_ray.submit PACKAGE``: hand a package to the competition."""

import sys

from booster_ray.cli import guarded
from booster_ray.deploy.submit import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
