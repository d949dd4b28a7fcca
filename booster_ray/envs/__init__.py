"""Things that step. The contract is in :mod:`booster_ray.envs.contract`."""
