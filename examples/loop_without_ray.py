"""The training loop is a generator: no Ray, no tracker, no folder.

python examples/loop_without_ray.py
"""

from booster_ray.config import load
from booster_ray.train.runner import Runner

config = load("tune_configs/debug.yaml").base()
loop = Runner(config)
for report in loop:
    print({name: round(value, 3) for name, value in report.metrics.items() if "/" not in name})
state = report.capture()  # everything: Runner(config, state) goes on from here bit for bit
print("captured:", ", ".join(state))
loop.close()
