"""Domain randomization of one MJX world: per-world factors, and the model they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from booster_ray.envs.brax_mjx import mjx
from booster_ray.envs.mjx_model import MjxParts
from booster_ray.soccer import game, randomization
from booster_ray.soccer.randomization import Factors


def draw_factors(level: randomization.Level, bodies: int, rng: jax.Array) -> Factors:
    """One world's factors, as ``randomization.sample`` draws them, from a JAX key."""
    return draw_within(randomization.widths_of(level), bodies, rng)


def draw_within(widths: Mapping[str, Any], bodies: int, rng: jax.Array) -> Factors:
    """The same of widths that may be traced: those of ``randomization.widths_of``."""
    keys = iter(jax.random.split(rng, len(randomization.DRAWS)))

    def factor(half_width: Any, *shape: int) -> jax.Array:
        return 1.0 + jax.random.uniform(next(keys), shape, minval=-half_width, maxval=half_width)

    def upto(most: jax.Array | int) -> jax.Array:
        return jax.random.randint(next(keys), (), 0, most + 1)

    return randomization.draw(widths, bodies, factor, upto)


def randomize(model: mjx.Model, parts: MjxParts, factors: Factors) -> mjx.Model:
    """``model`` of one world with its factors applied; under ``vmap``, of every world."""
    robot, ball, f = parts.robot_bodies, parts.ball_body, factors
    mass = jnp.ones(model.nbody).at[robot].set(f.body_mass).at[ball].set(f.ball_mass)
    # mj_setConst is not in MJX. Inverse weights set how soft contacts are: the ball's is exact,
    # the robot's bodies share that of its total mass.
    total = jnp.asarray(parts.model.body_mass[robot] / parts.model.body_mass[robot].sum())
    lightness = jnp.ones(model.nbody).at[robot].set(1 / (total @ f.body_mass))
    lightness = lightness.at[ball].set(1 / f.ball_mass)
    joints = slice(-game.ACTION_SIZE, None)
    return model.replace(
        body_mass=model.body_mass * mass,
        body_inertia=model.body_inertia * mass[:, None],
        body_invweight0=model.body_invweight0 * lightness[:, None],
        dof_damping=model.dof_damping.at[joints].multiply(f.damping),
        dof_frictionloss=model.dof_frictionloss.at[joints].multiply(f.damping),
        **_friction(model, parts, f),
    )


def _friction(model: mjx.Model, parts: MjxParts, f: Factors) -> dict[str, jax.Array]:
    """Sliding friction of what really touches: pairs in ``jax``, prior geoms in ``warp``."""
    geoms = jnp.ones(parts.model.ngeom)
    geoms = geoms.at[parts.foot_geoms].set(f.foot_friction).at[parts.ball_geom].set(f.ball_friction)
    if parts.impl == "warp":
        return {"geom_friction": model.geom_friction.at[:, 0].multiply(f.friction * geoms)}
    # As with priorities: foot and ball rule over the rest, the larger over each other.
    one, two = parts.model.pair_geom1, parts.model.pair_geom2
    special = np.isin(np.stack([one, two]), [*parts.foot_geoms, parts.ball_geom])
    larger = jnp.maximum(geoms[one], geoms[two])
    factor = jnp.where(special.all(axis=0), larger, geoms[one] * geoms[two])
    return {"pair_friction": model.pair_friction.at[:, :2].multiply((f.friction * factor)[:, None])}


def with_priorities(parts: MjxParts) -> mujoco.MjModel:
    """A copy of warp's model in which feet and ball alone say how they rub, as in ``native``."""
    model = parts.model.__copy__()
    model.geom_priority[[*parts.foot_geoms, parts.ball_geom]] = 1
    return model
