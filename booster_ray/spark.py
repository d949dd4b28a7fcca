"""``python -m booster_ray.spark STAGE …``: a stage of the pipeline on Ray, on a Spark cluster."""

import sys

from booster_ray.cli import guarded
from booster_ray.deploy.spark import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
