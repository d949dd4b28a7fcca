"""What the entry point of a world names; it is read when a config has that world."""

from booster_ray.config.kinds import Kind

PUSHED_POINT = Kind("booster_ray_example.world:PushedPoint")
