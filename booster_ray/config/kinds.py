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
    kwargs: bool = False
    """Whether its environments take ``world.kwargs``."""
    foreign: bool = False
    """Whether its environments are other people's code on the host: they are tried before anything
    begins, and may step in processes of their own (``world.processes``)."""
    tasks: Callable[[str], tuple[str, ...]] | None = None
    """The tasks behind ``kind:``; None: they are the game's, or there is but one without a name."""


BRAX = (
    "ant", "fast", "halfcheetah", "hopper", "humanoid", "humanoidstandup",
    "inverted_double_pendulum", "inverted_pendulum", "pusher", "reacher", "swimmer", "walker2d",
)  # fmt: skip
"""Brax's environments, written out because JAX must not load before a config is read."""
BACKENDS = ("generalized", "positional", "spring", "mjx")
"""Brax's physics, for `brax:NAME/BACKEND`."""

_MT10 = (
    "reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3",
    "button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3",
)  # fmt: skip
_MT25 = (
    *_MT10,
    "coffee-pull-v3", "pick-out-of-hole-v3", "disassemble-v3", "pick-place-wall-v3",
    "basketball-v3", "stick-pull-v3", "button-press-wall-v3", "faucet-open-v3", "door-lock-v3",
    "lever-pull-v3", "sweep-into-v3", "faucet-close-v3", "coffee-button-v3",
    "button-press-topdown-wall-v3", "dial-turn-v3",
)  # fmt: skip
_MT50 = (
    "assembly-v3", "basketball-v3", "bin-picking-v3", "box-close-v3", "button-press-topdown-v3",
    "button-press-topdown-wall-v3", "button-press-v3", "button-press-wall-v3", "coffee-button-v3",
    "coffee-pull-v3", "coffee-push-v3", "dial-turn-v3", "disassemble-v3", "door-close-v3",
    "door-lock-v3", "door-open-v3", "door-unlock-v3", "hand-insert-v3", "drawer-close-v3",
    "drawer-open-v3", "faucet-open-v3", "faucet-close-v3", "hammer-v3", "handle-press-side-v3",
    "handle-press-v3", "handle-pull-side-v3", "handle-pull-v3", "lever-pull-v3",
    "pick-place-wall-v3", "pick-out-of-hole-v3", "pick-place-v3", "plate-slide-v3",
    "plate-slide-side-v3", "plate-slide-back-v3", "plate-slide-back-side-v3",
    "peg-insert-side-v3", "peg-unplug-side-v3", "soccer-v3", "stick-push-v3", "stick-pull-v3",
    "push-v3", "push-wall-v3", "push-back-v3", "reach-v3", "reach-wall-v3", "shelf-place-v3",
    "sweep-into-v3", "sweep-v3", "window-open-v3", "window-close-v3",
)  # fmt: skip
METAWORLD = {"MT10": _MT10, "MT25": _MT25, "MT50": _MT50}
"""Meta-World's sets of tasks (Yu et al. 2020; version 3), written out as Brax's names are."""


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


def _metaworld_tasks(name: str) -> tuple[str, ...]:
    """Of ``MT10``, ``MT1:NAME``, ``NAME`` or ``NAME,NAME``."""
    if name in METAWORLD:
        return METAWORLD[name]
    return tuple(part.strip() for part in name.removeprefix("MT1:").split(","))


def _check_metaworld(name: str) -> None:
    tasks = _metaworld_tasks(name)
    for i, task in enumerate(tasks):
        if task not in _MT50:
            near = hint(task, (*_MT50, *METAWORLD))
            text = f"has {show(task)}, expected MT10, MT25, MT50, MT1:TASK or TASK,TASK{near}"
            raise PydanticCustomError("kind", "{text}", {"text": text})
        if task in tasks[:i]:
            raise _wrong(f"metaworld:{name}", "expected each task once")
    if name.startswith("MT1:") and len(tasks) > 1:
        raise _wrong(f"metaworld:{name}", f"expected one task, or metaworld:{name[4:]}")


def _wrong(kind: str, expected: str) -> PydanticCustomError:
    return PydanticCustomError("kind", "{text}", {"text": f"is {show(kind)}, {expected}"})


KINDS = {
    "native": Kind("native:NativeWorld", soccer=True),
    "mjx": Kind("mjx_world:MjxDynamics", soccer=True, on_device=True),
    "official": Kind("official_world:OfficialWorld", soccer=True),
    "gym": Kind("gym_world:GymWorld", check=_check_gym, kwargs=True, foreign=True),
    "brax": Kind("brax_world:BraxDynamics", on_device=True, check=_check_brax),
    "metaworld": Kind(
        "metaworld_world:MetaWorld", check=_check_metaworld, foreign=True, tasks=_metaworld_tasks
    ),
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


def task_names(text: str) -> tuple[str, ...]:
    """The tasks of a checked ``world.kind`` that has several of its own, which is not the game."""
    kind, name = kind_of(text)
    return kind.tasks(name) if kind.tasks else ()


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
        expected = f"expected {', '.join(plain)}, gym:ENV_ID, brax:NAME or metaworld:TASKS"
        near = hint(text, (*plain, f"gym:{name}", f"brax:{name}", f"metaworld:{name}"))
        raise _wrong(text, expected + near)
    if kind.check is not None:
        kind.check(name)
    return text
