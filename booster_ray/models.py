"""``python -m booster_ray.models``: the versions of the models, in MLflow or W&B."""

import sys

from booster_ray.cli import guarded
from booster_ray.deploy.models import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
