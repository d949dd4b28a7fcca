"""What `world.kind` may be: one line of :data:`KINDS` for each kind of environment.

Another package adds a kind by an entry point in the group :data:`GROUP` that names a :class:`Kind`;
its module is imported when a config has that kind.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from pydantic_core import PydanticCustomError

from booster_ray.config.errors import blame, hint, show
from booster_ray.soccer.entry_points import added


class Kind(NamedTuple):
    """What is known of a kind before its simulator loads."""

    env: str
    """``module:class`` in ``booster_ray.envs``, of another package in full. The class has
    ``from_config(config, num_envs)``, which also takes ``threads`` and ``max_steps``."""
    soccer: bool = False
    """Whether it simulates the game: tasks, rewards, control and randomization have a meaning."""
    on_device: bool = False
    """Whether it steps where the learner computes."""
    check: Callable[[str], None] | None = None
    """Refuses the name behind ``kind:``; None: the kind takes no name."""


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
    "gym": Kind("gym_world:GymWorld", check=_check_gym),
    "brax": Kind("brax_world:BraxDynamics", on_device=True, check=_check_brax),
}
"""Every kind by the name that configs use, without what stands behind a colon."""

GROUP = "booster_ray.worlds"
"""Entry points of other packages' kinds: ``NAME = "module:KIND"``."""
ADDED = added(GROUP, "world", KINDS)
"""Kinds of other packages, by the name that configs use."""


class _Soccer:
    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and kind_of(text)[0].soccer


SOCCER = _Soccer()
"""Holds every checked ``world.kind`` that simulates the game."""


def kind_of(text: str) -> tuple[Kind, str]:
    """The kind of a checked ``world.kind``, and the name of its environment."""
    family, _, name = text.partition(":")
    return KINDS.get(family) or _added(family), name


def class_of(text: str) -> str:
    """``module:class`` in full that makes the environments of a checked ``world.kind``."""
    place = kind_of(text)[0].env
    return f"booster_ray.envs.{place}" if text.partition(":")[0] in KINDS else place


@cache
def _added(family: str) -> Kind:
    """A kind of another package's; raises what its module raises, TypeError: it is no kind."""
    found = ADDED[family].load()
    if not isinstance(found, Kind) or ":" not in found.env:
        raise TypeError(f"{ADDED[family].place} is no Kind('module:class')")
    return found


def check_kind(text: str) -> str:
    """The kind itself; raises pydantic's error where there is no such environment."""
    family, colon, name = text.partition(":")
    kind = KINDS.get(family)
    if family in ADDED:
        try:
            kind = _added(family)
        except Exception as error:  # the package is not ours
            fault = f"is '{family}' of package {ADDED[family].package}, which cannot be used: "
            raise PydanticCustomError("kind", "{text}", {"text": fault + blame(error)}) from None
    if kind is None or (kind.check is None) != (not colon) or (colon and not name):
        plain = [known for known, kind in KINDS.items() if kind.check is None] + list(ADDED)
        expected = f"expected {', '.join(plain)}, gym:ENV_ID or brax:NAME"
        near = hint(text, (*plain, f"gym:{name}", f"brax:{name}"))
        raise _wrong(text, expected + near)
    if kind.check is not None:
        kind.check(name)
    return text
