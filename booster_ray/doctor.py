"""``python -m booster_ray.doctor [CONFIG]``: this machine, and what a config takes."""

import sys

from booster_ray.cli import guarded
from booster_ray.deploy.doctor.command import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:]), answers=True))
