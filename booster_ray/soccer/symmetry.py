"""The game in a mirror: the world's y axis turned round, left and right exchanged.

Robot, field and rules are (all but) symmetric about the vertical plane through the two goals, so
the image of a play is a play. An image is a signed permutation, built from small blocks in the
order of what it mirrors; blocks are joined with :func:`joined`, twice any of them is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array


class Image(NamedTuple):
    """What n numbers become in the mirror: ``mirrored[i] = sign[i] * x[order[i]]``."""

    order: np.ndarray
    """int (n,)."""
    sign: np.ndarray
    """float32 (n,): ±1."""


def mirrored(image: Image, x: Array) -> Array:
    """Shape: (..., n) → (..., n)."""
    return x[..., image.order] * image.sign


def signs(*values: int) -> Image:
    """Numbers that keep their places and take these signs (±1)."""
    return Image(np.arange(len(values)), np.array(values, np.float32))


def unchanged(size: int) -> Image:
    """Numbers that the mirror leaves alone."""
    return signs(*[1] * size)


def exchanged(half: Image) -> Image:
    """Two equal parts, left then right, that change places, each through the mirror itself."""
    size = len(half.order)
    return Image(np.concatenate([half.order + size, half.order]), np.tile(half.sign, 2))


def joined(*images: Image) -> Image:
    """Images one after the other, of the concatenation of what they mirror."""
    starts = np.cumsum([0, *(len(image.order) for image in images)])
    orders = [image.order + start for image, start in zip(images, starts, strict=False)]
    return Image(np.concatenate(orders), np.concatenate([image.sign for image in images]))


VECTOR = signs(1, -1, 1)
"""Positions, velocities, accelerations, of the world or of the body (x ahead, y left, z up)."""
AXIAL = signs(-1, 1, -1)
"""Angular velocities: a turn to the left becomes one to the right; a pitch stays a pitch."""
PLANAR = signs(1, -1)
"""Vectors on the ground."""
LEG = signs(1, -1, -1, 1, 1, -1)
"""Hip pitch, roll and yaw, knee, ankle pitch and roll: both legs' joints turn about the same
body axes (Booster T1), so what turns about x or z changes sign from leg to leg."""
JOINTS = exchanged(LEG)
"""12 joints, or anything told joint by joint: angles, speeds, torques, actions."""
CLOCK = signs(-1, -1)
"""Sine and cosine of the gait clock: half a period later, when the other leg steps."""

FEATURES = {
    # ball, ball velocity, way to the aim, its length, keeper from the ball
    "egocentric": joined(PLANAR, PLANAR, PLANAR, unchanged(1), PLANAR),
    "clock": CLOCK,
    "previous_action": JOINTS,
}
"""Images of what ``features.FEATURES`` appends, by the same names."""


def observation(features: Sequence[str] = ()) -> Image:
    """Image of an observation (``observation.observe``) and the features appended to it.

    The keeper moves by the clock, which is no part of the observation: in the goalie task the
    image is that of a play half a keeper's period later. Raises KeyError for an unknown feature.
    """
    official = joined(
        JOINTS,  # positions
        JOINTS,  # velocities
        VECTOR,  # projected gravity
        AXIAL,  # gyro
        VECTOR,  # accelerometer
        VECTOR,  # velocimeter
        *[VECTOR] * 4,  # both goals from the robot, both from the ball; on the plane themselves
        VECTOR,  # ball
        VECTOR,  # its velocity
        AXIAL,  # its angular velocity
        unchanged(2),  # team: the mirror does not change sides
        *[VECTOR] * 4,  # each keeper's position and velocity
        *[VECTOR] * 2,  # target's position and velocity
        *[VECTOR] * 3,  # defenders, in no order: they need not change places
        unchanged(len(game.TASKS)),
    )
    return joined(official, *(FEATURES[name] for name in features))


def action() -> Image:
    """Image of an action: joint offsets from a default pose that both legs share, or torques."""
    return JOINTS
