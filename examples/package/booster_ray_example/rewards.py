"""A reward term: an array function that native worlds, MJX and NumPy share."""

from booster_ray.soccer.frame import Array
from booster_ray.soccer.rewards import RewardInput, reward_term


@reward_term()
def turning(m: RewardInput) -> Array:
    """Squared yaw rate, rad²/s²; a cost."""
    return m.frame.gyro[..., 2] ** 2
