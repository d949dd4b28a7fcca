"""What `world.kind` may be: a simulator of the game, or another environment by its name."""

from __future__ import annotations

from pydantic_core import PydanticCustomError

from booster_ray.config.errors import hint, show

SOCCER = ("native", "mjx", "official")
"""Simulators of the game."""
BRAX = (
    "ant", "fast", "halfcheetah", "hopper", "humanoid", "humanoidstandup",
    "inverted_double_pendulum", "inverted_pendulum", "pusher", "reacher", "swimmer", "walker2d",
)  # fmt: skip
"""Brax's environments, written out because JAX must not load before a config is read."""
BACKENDS = ("generalized", "positional", "spring", "mjx")
"""Brax's physics, for `brax:NAME/BACKEND`."""

_EXPECTED = "expected native, mjx, official, gym:ENV_ID or brax:NAME"


def check_kind(kind: str) -> str:
    """The kind itself; raises pydantic's error where there is no such world."""
    family, _, name = kind.partition(":")
    if kind in SOCCER:
        return kind
    if family == "gym" and name:
        _check_gym(name)
    elif family == "brax" and name:
        _check_brax(name)
    else:
        raise _wrong(kind, _EXPECTED + hint(kind, (*SOCCER, f"gym:{name}", f"brax:{name}")))
    return kind


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
