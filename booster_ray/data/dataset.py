"""A Minari dataset in shards, which processes write side by side and Minari reads as one.

::

    FOLDER/job.json             how it is made; there while it is unfinished, too
    FOLDER/data/metadata.json   Minari's, with what is told here under "booster_ray"
    FOLDER/data/main_data.hdf5  a link to every episode, wherever it lies
    FOLDER/data/shard_00000.hdf5, …

Minari (Younis et al. 2024) keeps all episodes in one HDF5 file, which one process may write. A link
of HDF5 to another file is followed by whoever reads, so that shards need no reader of their own. A
shard gets its name when it is whole; ``metadata.json`` comes last, and with it the dataset is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from booster_ray.config import ConfigError
from booster_ray.store.durable import sync_folder

if TYPE_CHECKING:
    import h5py

DATA, METADATA, MAIN, JOB = "data", "metadata.json", "main_data.hdf5", "job.json"
OURS = "booster_ray"
"""Key of Minari's metadata under which ours stands."""
TRAIN, VALIDATION = "train", "validation"
TERMS, CLEAN = "reward_terms", "policy_action"
"""Infos of an episode: each reward term's magnitude in a step, (T + 1, terms), and what the policy
would have done had there been no noise, (T + 1, act)."""


class Episode(NamedTuple):
    """One episode of T steps, as it is written."""

    observations: np.ndarray
    """float32 (T + 1, obs): the last one follows the last action."""
    actions: np.ndarray
    """float32 (T, act): as they were played."""
    rewards: np.ndarray
    """float32 (T,)."""
    terminated: bool
    """Nothing follows the last step."""
    infos: Mapping[str, np.ndarray]
    """(T + 1, …) each; the first row belongs to the reset."""
    about: Mapping[str, Any]
    """Text and numbers: task, seed, split, score …"""


def need_minari() -> None:
    """See that Minari and h5py are installed.

    Raises:
        ConfigError: they are not.
    """
    try:
        import h5py  # noqa: F401
        import minari  # noqa: F401
    except ImportError as error:
        text = f"{error.name} is not installed; run: pip install 'booster_ray[data]'"
        raise ConfigError("datasets", text) from None


def split_of(number: int, validation: float) -> str:
    """Where an episode belongs, by its seed (or, without one, its place in the source).

    Every 1/``validation``-th number is held out, whatever the task, so that no spawn of one seed is
    in both parts, and an episode's part does not depend on which others there are.
    """
    held_out = int((number + 1) * validation) > int(number * validation)
    return VALIDATION if held_out else TRAIN


# -- writing ---------------------------------------------------------------------------------------


def shard_name(number: int) -> str:
    """The file of one unit of work."""
    return f"shard_{number:05d}.hdf5"


def write_shard(path: Path, episodes: Iterable[Episode]) -> int:
    """Write a shard, which appears under its name when it is whole; returns its episodes.

    Raises:
        OSError: it cannot be written.
    """
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    count = 0
    try:
        with h5py.File(temp, "w") as file:
            for episode in episodes:
                _write_episode(file.create_group(f"episode_{count}"), episode)
                count += 1
        descriptor = os.open(temp, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temp.replace(path)
        sync_folder(path.parent)
    finally:
        temp.unlink(missing_ok=True)
    return count


def _write_episode(group: h5py.Group, episode: Episode) -> None:
    steps = len(episode.rewards)
    ends = np.zeros((2, steps), bool)
    ends[0 if episode.terminated else 1, -1:] = True
    arrays = {
        "observations": episode.observations,
        "actions": episode.actions,
        "rewards": episode.rewards,
        "terminations": ends[0],
        "truncations": ends[1],
        **{f"infos/{name}": values for name, values in episode.infos.items()},
    }
    for name, values in arrays.items():
        # As Minari writes them, so that it can append; compressed, because much is constant.
        group.create_dataset(
            name,
            data=values,
            chunks=values.shape,
            maxshape=(None, *values.shape[1:]),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
    group.attrs.update({**episode.about, "total_steps": steps})


class Shard(NamedTuple):
    """What a finished dataset says of one of its files."""

    name: str
    sha256: str
    episodes: int
    steps: int


def finish(folder: Path, name: str, about: Mapping[str, Any], action_high: float = 1.0) -> None:
    """Make the dataset of all shards that lie in ``folder``; it is whole when this returns.

    Args:
        folder: of the dataset.
        name: Minari's id, without a version.
        about: JSON, kept under :data:`OURS`.
        action_high: the actions' bound on both sides.

    Raises:
        ConfigError: a shard is damaged.
        OSError: it cannot be written.
    """
    import h5py
    from gymnasium.spaces import Box
    from minari.dataset.minari_storage import MinariStorage

    data = folder / DATA
    shards: list[Shard] = []
    temp = folder / f".{DATA}.tmp-{secrets.token_hex(4)}"
    sizes = (0, 0)
    try:
        temp.mkdir()
        with h5py.File(temp / MAIN, "w", track_order=True) as main:
            total = 0
            for path in sorted(data.glob("shard_*.hdf5")):
                with opened(path) as file:
                    steps = 0
                    for i in range(len(file)):
                        episode = file[f"episode_{i}"]
                        steps += int(episode.attrs["total_steps"])
                        sizes = episode["observations"].shape[1], episode["actions"].shape[1]
                        main[f"episode_{total}"] = h5py.ExternalLink(path.name, f"/episode_{i}")
                        total += 1
                    shards.append(Shard(path.name, sha256(path), len(file), steps))
        made = temp / MAIN
        linked = made.rename(temp / f"linked_{MAIN}")
        observation, action = (
            Box(-high, high, (size,), np.float32)
            for size, high in zip(sizes, (np.inf, action_high), strict=True)
        )
        storage = MinariStorage.new(temp, observation, action, data_format="hdf5")
        linked.replace(made)
        storage.update_metadata(_metadata(name, about, shards))
        made.replace(data / MAIN)
        (temp / METADATA).replace(data / METADATA)
        sync_folder(data)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _metadata(name: str, about: Mapping[str, Any], shards: list[Shard]) -> dict[str, Any]:
    import minari

    plain = re.sub(r"[^-_\w]+", "_", name) or "dataset"
    versioned = plain if re.search(r"-v\d+$", plain) else f"{plain}-v0"
    size = sum(steps for *_, steps in shards)
    return {
        "dataset_id": versioned,
        "minari_version": minari.__version__,
        "total_episodes": sum(shard.episodes for shard in shards),
        "total_steps": size,
        "algorithm_name": str(about.get("policy", "")),
        OURS: {**about, "shards": [shard._asdict() for shard in shards]},
    }


# -- reading ---------------------------------------------------------------------------------------


def opened(path: Path) -> h5py.File:
    """A shard, open to be read.

    Raises:
        ConfigError: it is no HDF5 file, or torn.
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ConfigError(str(path), f"is missing or damaged ({_first(error)}); {MEND}") from None


MEND = "delete it, if it is there, and repeat the command that made the dataset"


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Dataset:
    """A finished dataset, of this package or of somebody else.

    Args:
        path: its folder, or the ``data`` folder in it.

    Raises:
        ConfigError: there is none, it is unfinished, or a shard is not the one that was written.
    """

    def __init__(self, path: Path) -> None:
        need_minari()
        self.folder = path
        self._data = path / DATA if (path / DATA).is_dir() else path
        file = self._data / METADATA
        if not file.is_file():
            raise ConfigError(str(path), _absent(path))
        try:
            self.metadata: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ConfigError(str(file), f"is damaged; {MEND}") from None
        self.about: dict[str, Any] = self.metadata.get(OURS, {})
        """What this package wrote of it; nothing of another's."""
        self.shards = [Shard(**one) for one in self.about.get("shards", [])]

    @property
    def digest(self) -> str:
        """Twelve hex digits that equal contents share."""
        text = json.dumps([shard.sha256 for shard in self.shards] or self.metadata, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def check(self) -> None:
        """See that every shard is as it was written.

        Raises:
            ConfigError: one is not; its name comes first.
        """
        for shard in self.shards:
            path = self._data / shard.name
            if not path.is_file():
                raise ConfigError(str(path), f"is missing; {MEND}")
            if (found := sha256(path)) != shard.sha256:
                text = f"is damaged: its SHA-256 begins {found[:12]}, expected {shard.sha256[:12]}"
                raise ConfigError(str(path), f"{text}; {MEND}")

    def opened(self) -> Any:
        """Minari's own view of it.

        Raises:
            ConfigError: Minari cannot read it.
        """
        from minari import MinariDataset

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return MinariDataset(self._data)
        except Exception as error:  # whatever a foreign dataset makes it raise
            raise ConfigError(str(self.folder), f"Minari cannot read it: {_first(error)}") from None

    def abouts(self) -> list[dict[str, Any]]:
        """What is told of each episode: task, seed, split, total_steps, score …"""
        view = self.opened()
        indices = view.episode_indices
        told = view.storage.get_episode_metadata(indices)
        return [self._told(int(i), one) for i, one in zip(indices, told, strict=True)]

    def _told(self, index: int, attributes: Mapping[str, Any]) -> dict[str, Any]:
        plain = {k: v.item() if hasattr(v, "item") else v for k, v in attributes.items()}
        if "split" not in plain:
            plain["split"] = split_of(int(plain.get("seed", index)), VALIDATION_SHARE)
        return plain

    def episodes(self, split: str | None = None) -> Iterator[Episode]:
        """All episodes, or those of one part, in their order.

        Raises:
            ConfigError: observations or actions are no flat arrays of numbers.
        """
        view, abouts = self.opened(), self.abouts()
        chosen = [i for i, one in enumerate(abouts) if split in (None, one["split"])]
        found = view.iterate_episodes(view.episode_indices[chosen]) if chosen else ()
        for place, one in zip(chosen, found, strict=True):
            seen, action = self._flat(one.observations), self._flat(one.actions)
            yield Episode(
                seen,
                action,
                np.asarray(one.rewards, np.float32),
                bool(one.terminations[-1]),
                one.infos or {},
                abouts[place],
            )

    def _flat(self, values: Any) -> np.ndarray:
        array = None if isinstance(values, dict | tuple | list) else np.asarray(values)
        if array is None or array.dtype.kind not in "fiub" or array.ndim < 2:
            text = "has observations or actions that are no arrays of numbers, expected Box spaces"
            raise ConfigError(str(self.folder), text)
        return array.reshape(len(array), -1).astype(np.float32)


VALIDATION_SHARE = 0.1
"""Held out of a dataset that does not tell its parts."""


def _absent(path: Path) -> str:
    if (path / JOB).is_file():
        return "is unfinished, expected a whole dataset; repeat the command that began it"
    what = "holds no Minari dataset" if path.is_dir() else "is not there"
    return f"{what}, expected a folder that booster_ray.data or Minari wrote"
