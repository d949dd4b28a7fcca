"""Whether a replay finds its memory: refused in one line, before anything is begun."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from booster_ray.config import Config, ConfigError, Distribution, Sweep
from booster_ray.soccer import game, observation

FLOAT = 4
GIB = 2**30
HEADROOM = 0.9
"""Of a machine's memory that runs may take: the system needs some, and estimates err."""
CGROUPS = Path("/sys/fs/cgroup")
"""Where the limits of a container or of a job's step are."""
OWN = Path("/proc/self/cgroup")


def transitions(config: Config) -> int:
    """Replay capacity of one worker; cloning has none, and holds its dataset."""
    if config.stage == "clone":
        return 0
    if config.stage == "pretrain":
        return config.sac.replay_size
    return config.ddpg.replay_size // max(1, config.trainer.workers)


def row_bytes(config: Config, observation: int, action: int) -> int:
    """Bytes of a transition: two observations, an action, reward and how it ended.

    Args:
        config: a resolved config.
        observation: numbers in an observation.
        action: numbers in an action.
    """
    numbers = 2 * observation + action + 3
    if config.stage == "finetune":
        numbers += 3  # parts of the reward
        numbers += action if config.imitation.demonstrator else 0
    return FLOAT * numbers


# -- what there is ---------------------------------------------------------------------------


def limit_bytes() -> int:
    """Memory of this machine, or of the container or job that this process is in."""
    import psutil

    return min([psutil.virtual_memory().total, *(limit for limit, _ in _limits())])


def free_bytes() -> int:
    """What of that nobody uses; pages of files, which give way, count as free."""
    import psutil

    free = psutil.virtual_memory().available
    return max(0, min([free, *(limit - used for limit, used in _limits())]))


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of each control group around this process that has a limit."""
    for folder in _groups():
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ):
            with suppress(OSError, ValueError):
                most = int((folder / limit).read_text(encoding="ascii"))  # not "max"
                taken = int((folder / used).read_text(encoding="ascii"))
                stat = (folder / "memory.stat").read_text(encoding="ascii").split()
                taken -= int(dict(zip(stat[::2], stat[1::2], strict=True)).get(cached, 0))
                yield most, max(0, taken)


def _groups() -> Iterator[Path]:
    """The folders of this process's control groups, those above them included."""
    yield CGROUPS  # in a container its own group stands there, whatever it is called outside
    with suppress(OSError):
        for line in OWN.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            root = CGROUPS / controllers
            own = root / path.strip("/")
            yield from (p for p in (own, *own.parents) if p != CGROUPS and p.is_relative_to(root))


def elsewhere() -> bool:
    """Whether Ray's workers may be on other machines: of a cluster that runs already."""
    return os.environ.get("RAY_ADDRESS", "local") not in ("", "local")


# -- checks ----------------------------------------------------------------------------------


def check_sweep(sweep: Sweep, sizes: tuple[int, int] | None) -> None:
    """Refuse a replay that this machine cannot hold.

    A sweep is checked at its largest replay, and for one trial: how many fit beside one another
    is said by its plan.

    Args:
        sweep: of the run or sweep that shall begin here.
        sizes: numbers in an observation and in an action; None: not known without JAX, so that
            the run itself will see.

    Raises:
        ConfigError: it cannot; the line says what would fit.
    """
    config = largest(sweep)
    if sizes := known_sizes(config, sizes):
        gpu = _gpu_bytes(config) if config.world.on_device else None
        _check(config, sizes, *(gpu or (free_bytes(), "this machine has {} free")), sweep.source)


def check_run(config: Config, observation: int, action: int) -> None:
    """In the process that trains, wherever it is: refuse a replay that can never fit here.

    Raises:
        ConfigError: as :func:`check_sweep`.
    """
    given: tuple[int, str] | None = None
    if config.world.on_device:
        import jax

        stats = jax.local_devices()[0].memory_stats() or {}
        if "bytes_limit" in stats:
            given = stats["bytes_limit"], "JAX may take {} of the device's memory"
    sizes, workers = (observation, action), max(1, config.trainer.workers)
    _check(config, sizes, *(given or (workers * limit_bytes(), "this machine has {}")), "")


def crowded(sweep: Sweep, sizes: tuple[int, int] | None, at_once: int) -> str:
    """What to know of the memory of ``at_once`` trials on this machine; empty: it is enough."""
    config = largest(sweep)
    sizes = known_sizes(config, sizes)
    if sizes is None or config.world.on_device:
        return ""
    each, free = replay_bytes(config, sizes), HEADROOM * free_bytes()
    if at_once * each <= free:
        return ""
    return (
        f"the replays of {at_once} trials at a time take {at_once * each / GIB:,.3g} GiB, this "
        f"machine has {free / HEADROOM / GIB:,.3g} GiB free: set tune.max_concurrent to at most "
        f"{int(free // each)}, or lower the replay_size"
    )


def largest(sweep: Sweep) -> Config:
    """A config of a sweep whose replay takes the most memory."""
    found = [_largest(sweep, named, space) for named, space in sweep.spaces()]
    return max(found, key=lambda config: replay_bytes(config, known_sizes(config, None) or (1, 1)))


def _largest(sweep: Sweep, named: dict[str, Any], space: Mapping[str, Distribution]) -> Config:
    """Of one experiment, which ``named`` names; of the sweep where there are none."""
    values = {key: list(found.ends().values()) for key, found in space.items()}
    chosen = named | {key: ends[0] for key, ends in values.items()}
    for key in ("sac.replay_size", "ddpg.replay_size"):
        chosen |= {key: max(values[key])} if key in values else {}
    if "observation.features" in values:
        chosen["observation.features"] = max(values["observation.features"], key=observation.size)
    try:
        return sweep.resolve(chosen)
    except ConfigError:  # the ends do not go together
        return sweep.resolve(named | {key: ends[0] for key, ends in values.items()})


def known_sizes(config: Config, of_world: tuple[int, int] | None) -> tuple[int, int] | None:
    """Numbers in an observation and in an action, where they are known without JAX."""
    if config.world.is_soccer:
        return observation.size(config.observation.features), game.ACTION_SIZE
    return of_world


def replay_bytes(config: Config, sizes: tuple[int, int]) -> int:
    """What the replay of a run takes, of all its workers together."""
    return max(1, config.trainer.workers) * transitions(config) * row_bytes(config, *sizes)


def _check(config: Config, sizes: tuple[int, int], available: int, has: str, source: str) -> None:
    taken = replay_bytes(config, sizes)
    if taken <= HEADROOM * available:
        return
    key = "sac.replay_size" if config.stage == "pretrain" else "ddpg.replay_size"
    row = row_bytes(config, *sizes)
    most = _rounded(int(HEADROOM * available / row))
    text = (
        f"{taken // row:,} transitions of {row / 1000:.3g} kB take {taken / GIB:,.3g} GiB, "
        f"{has.format(f'{available / GIB:,.3g} GiB')}; expected at most {most:,}"
    )
    raise ConfigError(source, key, text)


def _rounded(number: int) -> int:
    """Down to two digits."""
    scale = 10 ** max(0, len(str(number)) - 2)
    return number // scale * scale


def _gpu_bytes(config: Config) -> tuple[int, str] | None:
    """What JAX may take of a GPU, if it will find one here; nothing is loaded."""
    platforms = config.runtime.jax_platforms or os.environ.get("JAX_PLATFORMS", "")
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if platforms.startswith("cpu") or not any(map(find_spec, plugins)):
        return None
    from booster_ray.runtime.nvml import NoGpu, Nvml

    visible = config.runtime.cuda_visible_devices
    try:
        nvml = Nvml(None, os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible)
    except NoGpu:
        return None
    totals = nvml.totals()
    nvml.close()
    share = config.trainer.gpu_fraction if config.trainer.use_gpu else 1.0
    share *= config.runtime.mem_fraction
    return (int(share * min(totals)), "JAX may take {} of the GPU") if totals else None
