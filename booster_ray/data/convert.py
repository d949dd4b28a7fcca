"""Raw episodes of other makers as a dataset; ``docs/data.md`` has the formats.

- ``npz``: a file an episode, ``observations`` (T + 1 or T, obs) and ``actions`` (T, act) in
  [-1, 1]; where known ``rewards`` (T,), ``terminated``, ``seed``, ``task``.
- ``robomimic``: HDF5 with ``/data/demo_N/{obs/KEY, next_obs/KEY, actions, rewards, dones}``
  (Mandlekar et al. 2021); observations are joined in the order of their names.
- ``teleoperation``: what the competition's ``collect_data.py`` writes
  (github.com/ArenaX-Labs/booster_soccer_showdown): the episodes of a session in one .npz, 500 rows
  a second of the 89 official numbers and of the walking policy's action, without rewards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from booster_ray.config import Config, ConfigError, load
from booster_ray.data.dataset import (
    TRAIN,
    VALIDATION,
    Episode,
    opened,
    split_of,
    write_shard,
)
from booster_ray.data.job import Unit
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.soccer import game
from booster_ray.soccer.observation import places

A_SHARD = 64
"""Episodes, where a file does not hold more or fewer."""
TELEOPERATION = Settings(action_scale=1.0)
"""How the walking policy acts that people steer: radians about the default pose, at 50 Hz."""
SUFFIXES = {".npz": ("npz", "teleoperation"), ".hdf5": ("robomimic",), ".h5": ("robomimic",)}


class Part(NamedTuple):
    """The raw episodes of one shard."""

    format: str
    files: tuple[str, ...]
    first: int
    """Place of the first episode among all."""
    demos: tuple[str, ...]
    """Of a robomimic file."""
    config: str | None
    rewards: bool
    """Whether every episode has some."""
    validation: float


class Source(NamedTuple):
    """A folder of raw episodes."""

    format: str
    files: tuple[Path, ...]
    config: str | None
    rewards: bool
    settings: Settings | None

    @classmethod
    def at(cls, path: Path, wanted: str, config: str | None) -> Source:
        """What lies there.

        Raises:
            ConfigError: nothing that can be converted.
        """
        path = path.expanduser()
        if not path.exists():
            raise ConfigError("command line", "FOLDER", f"{path} is not there")
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        files = tuple(p for p in found if p.suffix in SUFFIXES)
        kinds = sorted({p.suffix for p in files})
        if not files or len({SUFFIXES[kind] for kind in kinds}) > 1:
            told = " and ".join(kinds) + " files" if kinds else "no .npz, .hdf5 or .h5 file"
            raise ConfigError("command line", "FOLDER", f"{path} holds {told}, expected one kind")
        format, rewards = _looked_at(files[0])
        if wanted not in ("auto", format) and wanted not in SUFFIXES[files[0].suffix]:
            text = f"is {wanted}; {files[0].name} is {format}"
            raise ConfigError("command line", "--format", text)
        format = format if wanted == "auto" else wanted
        if format == "teleoperation":
            if config is not None:
                raise ConfigError("command line", "--config", "is not for teleoperation recordings")
            return cls(format, files, None, False, TELEOPERATION)
        settings = None
        if config is not None and (known := load(config).base()).world.is_soccer:
            settings = settings_of(known)
        return cls(format, files, config, rewards, settings)

    @property
    def noun(self) -> str:
        """What units count."""
        return "episodes" if self.format == "robomimic" else "files"

    def names(self) -> dict[str, int]:
        """Files and their bytes: what must not change while a conversion is under way."""
        return {str(path): path.stat().st_size for path in self.files}

    def about(self) -> dict[str, Any]:
        """What a dataset tells of it."""
        settings = None if self.settings is None else self.settings.to_dict()
        told: dict[str, Any] = {"kind": self.format, "settings": settings}
        told |= {"terms": [], "rewards": self.rewards}
        return told if self.config is None else told | {"trained_with": _config(self.config)}

    def units(self, validation: float) -> list[Unit]:
        """What becomes a shard each.

        Raises:
            ConfigError: a robomimic file is damaged, or has no episodes.
        """
        made: list[Unit] = []
        place = 0
        for files, demos in self._parts():
            size = len(demos) or len(files)
            names = tuple(map(str, files))
            part = Part(self.format, names, place, demos, self.config, self.rewards, validation)
            made.append(Unit(len(made), size, part))
            place += size
        return made

    def _parts(self) -> Iterator[tuple[tuple[Path, ...], tuple[str, ...]]]:
        if self.format == "robomimic":
            for file in self.files:
                demos = _demos(file)
                for i in range(0, len(demos), A_SHARD):
                    yield (file,), demos[i : i + A_SHARD]
            return
        step = 1 if self.format == "teleoperation" else A_SHARD
        for i in range(0, len(self.files), step):
            yield self.files[i : i + step], ()


def _config(config: str) -> dict[str, Any]:
    return load(config).base().to_dict()


def make(part: Part, path: Path) -> int:
    """Read and write one shard; returns its episodes.

    Raises:
        ConfigError: a raw episode is none; its file comes first.
    """
    return write_shard(path, _READERS[part.format](part))


# -- what a file holds -----------------------------------------------------------------------------


def _looked_at(file: Path) -> tuple[str, bool]:
    """The format of a file, and whether it has rewards."""
    if file.suffix != ".npz":
        first = _demos(file)[0]
        with opened(file) as raw:
            return "robomimic", "rewards" in raw["data"][first]
    arrays = _arrays(file)
    seen = arrays.get("observations", np.zeros(0))
    wide = seen.ndim == 2 and seen.shape[1] == game.OBSERVATION_SIZE
    if wide and "done" in arrays and "rewards" not in arrays:
        return "teleoperation", False
    return "npz", "rewards" in arrays


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        # Never pickles: a recording runs no code.
        with np.load(file, allow_pickle=False) as raw:
            return {name: raw[name] for name in raw.files}
    except Exception as error:  # zip's, NumPy's and the system's
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(str(file), f"is no .npz file of arrays, or damaged ({first})") from None


def _demos(file: Path) -> tuple[str, ...]:
    with opened(file) as raw:
        names = list(raw["data"]) if "data" in raw else []
    demos = [name for name in names if re.fullmatch(r"demo_\d+", name)]
    if not demos:
        raise ConfigError(str(file), "has no /data/demo_N, expected robomimic's layout")
    return tuple(sorted(demos, key=lambda name: int(name.removeprefix("demo_"))))


# -- episodes --------------------------------------------------------------------------------------


def _npz(part: Part) -> Iterator[Episode]:
    for place, file in enumerate(part.files, part.first):
        arrays = _arrays(Path(file))
        for name in ("observations", "actions"):
            if name not in arrays:
                raise ConfigError(file, f"has no '{name}', it has {', '.join(sorted(arrays))}")
        told: dict[str, Any] = {"source": Path(file).name}
        if "seed" in arrays:
            told["seed"] = int(arrays["seed"])
        if "task" in arrays:
            told["task"] = str(arrays["task"])
        terminated = bool(np.any(arrays["terminated"])) if "terminated" in arrays else False
        rewards = arrays.get("rewards")
        seen, actions = arrays["observations"], arrays["actions"]
        yield _raw_episode(part, file, seen, actions, rewards, terminated, told, place)


def _robomimic(part: Part) -> Iterator[Episode]:
    (file,) = part.files
    with opened(Path(file)) as raw:
        masks = {
            ours: {_text(name) for name in raw["mask"][theirs][()]}
            for theirs, ours in (("train", TRAIN), ("valid", VALIDATION))
            if "mask" in raw and theirs in raw["mask"]
        }
        for place, name in enumerate(part.demos, part.first):
            demo = raw["data"][name]
            at = f"{file}: {name}"
            if "obs" not in demo or "actions" not in demo:
                raise ConfigError(at, f"has {', '.join(demo)}, expected obs and actions")
            seen = _joined(at, demo["obs"])
            if "next_obs" in demo:
                seen = np.concatenate([seen, _joined(at, demo["next_obs"])[-1:]])
            told: dict[str, Any] = {"source": f"{Path(file).name}:{name}"}
            for split, names in masks.items():
                told |= {"split": split} if name in names else {}
            if "seed" in demo.attrs:
                told["seed"] = int(demo.attrs["seed"])
            dones = demo["dones"][()] if "dones" in demo else np.zeros(1)
            rewards = demo["rewards"][()] if "rewards" in demo else None
            ended = bool(dones[-1])
            yield _raw_episode(part, at, seen, demo["actions"][()], rewards, ended, told, place)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _joined(at: str, group: Any) -> np.ndarray:
    """Observations (T, obs): the arrays of a group, side by side in the order of their names."""
    parts = {name: np.asarray(group[name][()]) for name in sorted(group)}
    for name, values in parts.items():
        if values.ndim not in (1, 2):
            text = f"obs/{name} has shape {list(values.shape)}, expected numbers and no images"
            raise ConfigError(at, text)
    return np.concatenate([values.reshape(len(values), -1) for values in parts.values()], axis=1)


def _raw_episode(
    part: Part,
    at: str,
    seen: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray | None,
    terminated: bool,
    told: Mapping[str, Any],
    place: int,
) -> Episode:
    """An episode whose arrays fit; a last action whose outcome is not there is left out."""
    if seen.ndim != 2 or actions.ndim != 2 or len(seen) - len(actions) not in (0, 1):
        shapes = f"observations {list(seen.shape)} and actions {list(actions.shape)}"
        raise ConfigError(at, f"has {shapes}, expected [T + 1, obs] (or [T, obs]) and [T, act]")
    if (rewards is None) == part.rewards or (rewards is not None and len(rewards) != len(actions)):
        what = "no rewards" if rewards is None else f"{len(rewards)} rewards"
        wanted = "one for each action" if part.rewards else "none, as the first file has none"
        raise ConfigError(at, f"has {what}, expected {wanted}")
    if len(seen) == len(actions):
        actions, terminated = actions[:-1], False
        rewards = None if rewards is None else rewards[:-1]
    if not len(actions):
        raise ConfigError(at, "has no step with an outcome, expected at least one")
    for name, values in (("observations", seen), ("actions", actions)):
        if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
            raise ConfigError(at, f"has {name} that are no finite numbers")
    if (most := float(np.abs(actions).max())) > 1.0 + 1e-6:
        raise ConfigError(at, f"has actions up to {most:.3g}, expected -1 to 1")
    about = dict(told)
    about.setdefault("split", split_of(about.get("seed", place), part.validation))
    if part.config is not None and "task" not in about:
        about |= _task_in(at, seen, load(part.config).base())
    return Episode(
        seen.astype(np.float32),
        actions.astype(np.float32),
        (np.zeros(len(actions)) if rewards is None else rewards).astype(np.float32).reshape(-1),
        terminated,
        {},
        about,
    )


def _task_in(at: str, seen: np.ndarray, config: Config) -> dict[str, str]:
    """The task that the game's observations tell."""
    if not config.world.is_soccer:
        return {}
    if seen.shape[1] < game.OBSERVATION_SIZE:
        text = f"has observations of {seen.shape[1]} numbers, expected {game.OBSERVATION_SIZE}"
        raise ConfigError(at, f"{text} or more")
    return {"task": game.TASKS[int(seen[0, places()["task"]].argmax())]}


# -- the competition's recordings ------------------------------------------------------------------


def _teleoperation(part: Part) -> Iterator[Episode]:
    (file,) = part.files
    arrays = _arrays(Path(file))
    seen, actions = (arrays.get(name, np.zeros(0)) for name in ("observations", "actions"))
    wide = game.OBSERVATION_SIZE
    if seen.shape != (len(actions), wide) or actions.shape != (len(seen), game.ACTION_SIZE):
        shapes = f"observations {list(seen.shape)} and actions {list(actions.shape)}"
        raise ConfigError(file, f"has {shapes}, expected [N, {wide}] and [N, {game.ACTION_SIZE}]")
    firsts = [*_beginnings(seen, arrays.get("done")), len(seen)]
    for i, (begin, end) in enumerate(pairwise(firsts)):
        steps = _control_steps(f"{file}: row {begin}", actions[begin:end])
        if len(steps) < 2:
            continue  # a session that was cut short, or a reset by hand
        rows = begin + steps
        told = {"source": f"{Path(file).name}:{i}"}
        told["task"] = game.TASKS[int(seen[begin, places()["task"]].argmax())]
        split = split_of(part.first + i, part.validation)
        yield Episode(
            seen[rows].astype(np.float32),
            np.clip(actions[rows[:-1]], -1.0, 1.0).astype(np.float32),
            np.zeros(len(rows) - 1, np.float32),
            False,  # what the last action led to is not in the file
            {},
            {**told, "split": split},
        )


def _beginnings(seen: np.ndarray, done: np.ndarray | None) -> list[int]:
    """The first row of each episode: behind a done, and where the joints stand at exactly 0.

    Time that is up, and a reset by hand, mark nothing in the file; but robots spawn with straight
    legs at rest.
    """
    still = np.count_nonzero(seen[:, : 2 * game.ACTION_SIZE], axis=1) == 0
    first = still & ~np.concatenate([[False], still[:-1]])
    if done is not None and len(done) == len(seen):
        first[1:] |= np.asarray(done[:-1], bool)
    first[:1] = True
    return [int(i) for i in np.flatnonzero(first)]


def _control_steps(at: str, actions: np.ndarray) -> np.ndarray:
    """Rows at which the steering policy acted, every tenth: its clock runs on over resets."""
    every = TELEOPERATION.decimation
    changes = 1 + np.flatnonzero((actions[1:] != actions[:-1]).any(axis=1))
    phases = np.unique(changes % every)
    if len(phases) > 1:
        text = f"has actions that change within {every} rows, expected 50 Hz in rows of 500 Hz"
        raise ConfigError(at, text)
    first = int(phases[0]) if len(phases) else 0
    return np.arange(first, len(actions), every)


_READERS = {"npz": _npz, "robomimic": _robomimic, "teleoperation": _teleoperation}
