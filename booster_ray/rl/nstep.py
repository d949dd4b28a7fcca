"""Returns of several steps, for NumPy and JAX (Sutton 1988, "Learning to Predict by TD")."""

from __future__ import annotations

from typing import Any

Array = Any


def fold(
    reward: Array, terminated: Array, ended: Array, discount: Array
) -> tuple[Array, Array, Array]:
    """Fold windows of consecutive steps into one transition each.

    With m the steps up to the first that ended, or all n of them, the transition's value is
    Σ_{k<m} γ^k r_k + γ^m V(s_m), where s_m is the state that step m-1 truly led to: so a window
    that a truncation cuts bootstraps there, with γ^m, and one that termination cuts does not.

    Args:
        reward: float (n, ...), the oldest step first.
        terminated: float (n, ...): 1.0 where nothing follows.
        ended: bool (n, ...): the window stops with this step, because the episode terminated or
            was truncated or nothing newer is known. The last step need not be marked.
        discount: γ per step.

    Returns:
        The return (...), the factor γ^m (1 - terminated) of V (...), and m - 1 as int (...).
    """
    xp = reward.__array_namespace__()
    inside = xp.ones_like(ended[0])
    total, follow = xp.zeros_like(reward[0]), xp.ones_like(reward[0])
    last = xp.zeros(inside.shape, dtype=xp.int32)
    for k in range(len(reward)):
        total = total + xp.where(inside, follow * reward[k], 0.0)
        follow = xp.where(inside, discount * (1.0 - terminated[k]) * follow, follow)
        last = xp.where(inside, k, last)
        inside = inside & ~ended[k]
    return total, follow, last
