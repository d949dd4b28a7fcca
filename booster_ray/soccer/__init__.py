"""The rules of the game: pure functions of arrays, for NumPy and JAX alike.

Nothing here knows a simulator. A world fills a :class:`~booster_ray.soccer.frame.Frame`
and asks these functions what is observed, what is scored and when an episode ends.
"""
