"""Rotations on arrays of quaternions (w, x, y, z), for NumPy and JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from booster_ray.soccer.frame import Array


def cross(a: Array, b: Array) -> Array:
    """Cross product over the last axis. Shape: (..., 3) × (..., 3) → (..., 3)."""
    xp = a.__array_namespace__()
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return xp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def rotate(quat: Array, vector: Array) -> Array:
    """Rotate body-frame vectors into the world. Shapes: (..., 4), (..., 3) → (..., 3)."""
    w, v = quat[..., :1], quat[..., 1:]
    t = 2.0 * cross(v, vector)
    return vector + w * t + cross(v, t)


def rotate_inverse(quat: Array, vector: Array) -> Array:
    """Rotate world vectors into the body frame. Shapes: (..., 4), (..., 3) → (..., 3)."""
    w, v = quat[..., :1], quat[..., 1:]
    t = 2.0 * cross(vector, v)
    return vector + w * t + cross(t, v)


def yaw(quat: Array) -> Array:
    """Heading of the body's x axis about the vertical, rad. Shape: (..., 4) → (...)."""
    xp = quat.__array_namespace__()
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    return xp.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def heading(quat: Array) -> Array:
    """Unit vector of the body's x axis on the ground. Shape: (..., 4) → (..., 2)."""
    xp = quat.__array_namespace__()
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    forward = xp.stack([1.0 - 2.0 * (y * y + z * z), 2.0 * (w * z + x * y)], axis=-1)
    return forward / norm(forward, eps=1e-12)[..., None]


def norm(vector: Array, eps: float = 0.0) -> Array:
    """Euclidean norm over the last axis; ``eps`` keeps its gradient finite at zero."""
    xp = vector.__array_namespace__()
    return xp.sqrt(xp.sum(vector * vector, axis=-1) + eps)
