"""``python -m booster_ray.play [POLICY]``: a shipped policy, in the browser or as films."""

import sys

from booster_ray.cli import guarded
from booster_ray.evaluate.viewer.command import play

if __name__ == "__main__":
    sys.exit(guarded(lambda: play(sys.argv[1:])))
