"""The game in a mirror: the world's y axis turned round, left and right exchanged.

Robot, field and rules are (all but) symmetric about the vertical plane through the two goals, so
the image of a play is a play. What each part of an observation becomes stands in its entry of
:mod:`booster_ray.soccer.observation`; here are the blocks that the entries are built from.
"""

from __future__ import annotations

Image = tuple[tuple[int, int], ...]
"""What n numbers become in the mirror, a signed permutation that is its own inverse: of the i-th
pair (place, sign), ``mirrored[i] = sign * x[place]``. Learners take it as it is."""


def signs(*values: int) -> Image:
    """Numbers that keep their places and take these signs (±1)."""
    return tuple(enumerate(values))


def unchanged(size: int) -> Image:
    """Numbers that the mirror leaves alone."""
    return signs(*[1] * size)


def exchanged(half: Image) -> Image:
    """Two equal parts, left then right, that change places, each through the mirror itself."""
    return (*((place + len(half), sign) for place, sign in half), *half)


def joined(*images: Image) -> Image:
    """Images one after the other, of the concatenation of what they mirror."""
    pairs: list[tuple[int, int]] = []
    for image in images:
        start = len(pairs)
        pairs += [(place + start, sign) for place, sign in image]
    return tuple(pairs)


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
"""12 joints, or anything given joint by joint: angles, speeds, torques."""
ACTION = JOINTS
"""An action: joint offsets from a default pose that both legs share, or torques."""
CLOCK = signs(-1, -1)
"""Sine and cosine of the gait clock: half a period later, when the other leg steps."""
