"""What `world.kind` may be: one line of :data:`KINDS` for each kind of environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pydantic_core import PydanticCustomError

from booster_ray.config.errors import hint, show


class Kind(NamedTuple):
    """What is known of a kind before its simulator loads."""

    env: str
    """``module:class`` in ``booster_ray.envs``. The class has ``from_config(config, num_envs)``,
    which also takes ``threads`` and ``max_steps``."""
    soccer: bool = False
    """Whether it simulates the game: tasks, rewards, control and randomization have a meaning."""
    on_device: bool = False
    """Whether it steps where the learner computes."""
    check: Callable[[str], None] | None = None
    """Refuses the name behind ``kind:``; None: the kind takes no name."""
    kwargs: bool = False
    """Whether its environments take ``world.kwargs``."""
    foreign: bool = False
    """Whether its environments are other people's code on the host: they are tried before anything
    begins, and may step in processes of their own (``world.processes``)."""


BRAX = (
    "ant", "fast", "halfcheetah", "hopper", "humanoid", "humanoidstandup",
    "inverted_double_pendulum", "inverted_pendulum", "pusher", "reacher", "swimmer", "walker2d",
)  # fmt: skip
"""Brax's environments, written out because JAX must not load before a config is read."""
BACKENDS = ("generalized", "positional", "spring", "mjx")
"""Brax's physics, for `brax:NAME/BACKEND`."""


def _check_gym(env_id: str) -> None:
    module, colon, _ = env_id.rpartition(":")
    if colon:  # registered by importing a module, which is the world's business
        if not all(part.isidentifier() for part in module.split(".")):
            raise _wrong(f"gym:{env_id}", "expected gym:ENV_ID or gym:MODULE:ENV_ID")
        return
    if env_id.startswith("dm_control/"):  # registered by shimmy, which loads all of dm_control
        return
    import gymnasium

    if env_id not in gymnasium.registry:
        near = hint(f"gym:{env_id}", [f"gym:{known}" for known in gymnasium.registry])
        raise _wrong(f"gym:{env_id}", f"expected an environment that gymnasium knows{near}")


def _check_brax(name: str) -> None:
    env, slash, backend = name.partition("/")
    if env not in BRAX:
        near = hint(f"brax:{env}", [f"brax:{known}" for known in BRAX])
        raise _wrong(f"brax:{name}", f"expected one of Brax's {', '.join(BRAX)}{near}")
    if slash and backend not in BACKENDS:
        near = hint(f"brax:{name}", [f"brax:{env}/{known}" for known in BACKENDS])
        raise _wrong(f"brax:{name}", f"expected a backend of {', '.join(BACKENDS)}{near}")


def _wrong(kind: str, expected: str) -> PydanticCustomError:
    return PydanticCustomError("kind", "{text}", {"text": f"is {show(kind)}, {expected}"})


KINDS = {
    "native": Kind("native:NativeWorld", soccer=True),
    "mjx": Kind("mjx_world:MjxDynamics", soccer=True, on_device=True),
    "official": Kind("official_world:OfficialWorld", soccer=True),
    "gym": Kind("gym_world:GymWorld", check=_check_gym, kwargs=True, foreign=True),
    "brax": Kind("brax_world:BraxDynamics", on_device=True, check=_check_brax),
}
"""Every kind by the name that configs use, without what stands behind a colon."""

SOCCER = tuple(name for name, kind in KINDS.items() if kind.soccer)
"""Kinds that simulate the game."""


def kind_of(text: str) -> tuple[Kind, str]:
    """The kind of a checked ``world.kind``, and the name of its environment."""
    family, _, name = text.partition(":")
    return KINDS[family], name


def check_kind(text: str) -> str:
    """The kind itself; raises pydantic's error where there is no such environment."""
    family, colon, name = text.partition(":")
    kind = KINDS.get(family)
    if kind is None or (kind.check is None) != (not colon) or (colon and not name):
        plain = [known for known, kind in KINDS.items() if kind.check is None]
        expected = f"expected {', '.join(plain)}, gym:ENV_ID or brax:NAME"
        near = hint(text, (*plain, f"gym:{name}", f"brax:{name}"))
        raise _wrong(text, expected + near)
    if kind.check is not None:
        kind.check(name)
    return text
