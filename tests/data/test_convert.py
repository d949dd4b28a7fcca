"""Raw episodes of other makers: what of them arrives, and what is refused by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest

from booster_ray.config import ConfigError
from booster_ray.data import convert
from booster_ray.data.command import main
from booster_ray.data.dataset import Dataset
from booster_ray.soccer import game

RNG = np.random.default_rng(0)


def converted(source: Path, output: Path, *args: str) -> Dataset:
    command = ["convert", str(source), "--output", str(output), "--processes", "1", *args]
    assert main(command) == 0
    return Dataset(output)


def npz(path: Path, steps: int = 5, **changes: Any) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "observations": RNG.standard_normal((steps + 1, 3)),
        "actions": RNG.uniform(-1, 1, (steps, 2)),
        "rewards": RNG.standard_normal(steps),
        "terminated": np.array(True),
    }
    arrays = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    np.savez(path, **arrays)
    return arrays


# -- npz -------------------------------------------------------------------------------------------


def test_npz_files_are_an_episode_each(tmp_path: Path, capsys: Any) -> None:
    raw = [npz(tmp_path / f"raw/{i:02d}.npz", 3 + i, seed=np.array(i)) for i in range(12)]
    dataset = converted(tmp_path / "raw", tmp_path / "made-v3", "--validation", "0.25")
    view = minari.MinariDataset(tmp_path / "made-v3" / "data")
    assert view.id == "made-v3" and view.total_episodes == 12
    for mine, theirs in zip(view, raw, strict=True):
        np.testing.assert_allclose(mine.observations, theirs["observations"], rtol=1e-6)
        np.testing.assert_allclose(mine.actions, theirs["actions"], rtol=1e-6)
        np.testing.assert_allclose(mine.rewards, theirs["rewards"], rtol=1e-6)
        assert mine.terminations[-1] and not mine.truncations[-1]
    held_out = [a["seed"] for a in dataset.abouts() if a["split"] == "validation"]
    assert held_out == [3, 7, 11]
    out = capsys.readouterr().out
    assert "12 episodes" in out and "9 + 3 episodes" in out and "SHA-256 as written" in out


def test_a_last_action_without_an_outcome_is_left_out(tmp_path: Path) -> None:
    arrays = npz(tmp_path / "raw/a.npz", observations=RNG.standard_normal((5, 3)))
    (episode,) = converted(tmp_path / "raw", tmp_path / "made").episodes()
    assert len(episode.rewards) == 4 and not episode.terminated
    np.testing.assert_allclose(episode.observations, arrays["observations"], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"actions": None}, "b.npz: has no 'actions', it has observations"),
        ({"actions": np.zeros((7, 2))}, r"expected \[T \+ 1, obs\]"),
        ({"actions": np.full((5, 2), 7.3)}, "b.npz: has actions up to 7.3, expected -1 to 1"),
        ({"observations": np.full((6, 3), np.nan)}, "observations that are no finite numbers"),
        ({"rewards": None}, "b.npz: has no rewards, expected one for each action"),
        ({"rewards": np.zeros(3)}, "b.npz: has 3 rewards"),
    ],
)
def test_what_is_no_episode_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    npz(tmp_path / "raw/a.npz")
    npz(tmp_path / "raw/b.npz", **changes)
    with pytest.raises(ConfigError, match=said) as caught:
        converted(tmp_path / "raw", tmp_path / "made")
    assert "\n" not in str(caught.value)


def test_a_torn_file_and_pickles_are_refused(tmp_path: Path) -> None:
    npz(tmp_path / "raw/a.npz")
    whole = (tmp_path / "raw/a.npz").read_bytes()
    (tmp_path / "raw/b.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"b.npz: is no .npz file of arrays, or damaged"):
        converted(tmp_path / "raw", tmp_path / "made")
    np.savez(tmp_path / "raw/b.npz", observations=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match=r"b.npz: is no .npz file of arrays"):
        converted(tmp_path / "raw", tmp_path / "made2")


def test_a_conversion_that_was_cut_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "A_SHARD", 2)
    for i in range(6):
        npz(tmp_path / f"raw/{i}.npz")
    whole = converted(tmp_path / "raw", tmp_path / "whole").digest
    make, made = convert.make, []

    def cut(part: convert.Part, path: Path) -> int:
        if len(made) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        made.append(path.name)
        return make(part, path)

    monkeypatch.setattr(convert, "make", cut)
    command = ["convert", str(tmp_path / "raw"), "--output", str(tmp_path / "cut")]
    assert main([*command, "--processes", "1"]) == 130 and len(made) == 2
    assert main([*command, "--processes", "1"]) == 0 and len(made) == 3
    assert Dataset(tmp_path / "cut").digest == whole
    npz(tmp_path / "raw/7.npz")
    with pytest.raises(ConfigError, match="is of another job: files is"):
        main(command)


def test_processes_make_the_same(tmp_path: Path) -> None:
    for i in range(65):
        npz(tmp_path / f"raw/{i:02d}.npz", 2)
    command = ["convert", str(tmp_path / "raw"), "--output", str(tmp_path / "two")]
    assert main([*command, "--processes", "2"]) == 0
    assert Dataset(tmp_path / "two").digest == converted(tmp_path / "raw", tmp_path / "one").digest


def test_an_error_in_a_process_is_one_line(tmp_path: Path) -> None:
    for i in range(65):
        npz(tmp_path / f"raw/{i:02d}.npz", 2, **({"actions": np.zeros((9, 2))} if i == 64 else {}))
    command = ["convert", str(tmp_path / "raw"), "--output", str(tmp_path / "made")]
    with pytest.raises(ConfigError, match=r"64.npz: has observations \[3, 3\]"):
        main([*command, "--processes", "2"])


# -- robomimic -------------------------------------------------------------------------------------


def robomimic(path: Path, demos: int = 3, *, next_obs: bool = True, **changes: Any) -> None:
    with h5py.File(path, "w") as file:
        for i in range(demos):
            group = file.create_group(f"data/demo_{i}")
            seen = {"joints": RNG.standard_normal((5, 3)), "ball": RNG.standard_normal((5, 2))}
            seen |= changes
            for name, values in seen.items():
                group[f"obs/{name}"] = values
                if next_obs:
                    group[f"next_obs/{name}"] = np.concatenate([values[1:], values[:1]])
            group["actions"] = RNG.uniform(-1, 1, (5, 4))
            group["rewards"] = np.arange(5.0)
            group["dones"] = np.array([0, 0, 0, 0, 1])
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
        file["mask/valid"] = np.array([b"demo_1"])


def test_robomimics_files(tmp_path: Path) -> None:
    robomimic(tmp_path / "demos.hdf5")
    dataset = converted(tmp_path / "demos.hdf5", tmp_path / "made")
    assert [a["split"] for a in dataset.abouts()] == ["train", "validation", "train"]
    with h5py.File(tmp_path / "demos.hdf5") as raw:
        for i, episode in enumerate(dataset.episodes()):
            demo = raw["data"][f"demo_{i}"]
            seen = np.concatenate([demo["obs/ball"], demo["obs/joints"]], axis=1)
            last = np.concatenate([demo["next_obs/ball"][-1:], demo["next_obs/joints"][-1:]], 1)
            np.testing.assert_allclose(episode.observations, np.vstack([seen, last]), rtol=1e-6)
            np.testing.assert_allclose(episode.actions, demo["actions"], rtol=1e-6)
            assert episode.terminated and episode.about["source"] == f"demos.hdf5:demo_{i}"


def test_images_and_other_files_are_refused(tmp_path: Path) -> None:
    robomimic(tmp_path / "demos.hdf5", image=np.zeros((5, 8, 8, 3)))
    with pytest.raises(ConfigError, match=r"demo_0: obs/image has shape \[5, 8, 8, 3\]"):
        converted(tmp_path / "demos.hdf5", tmp_path / "made")
    (tmp_path / "torn.hdf5").write_bytes((tmp_path / "demos.hdf5").read_bytes()[:3000])
    with pytest.raises(ConfigError, match=r"torn.hdf5: is missing or damaged"):
        converted(tmp_path / "torn.hdf5", tmp_path / "made2")
    with pytest.raises(ConfigError, match=r"holds no \.npz, \.hdf5 or \.h5 file"):
        (tmp_path / "empty").mkdir()
        converted(tmp_path / "empty", tmp_path / "made3")


# -- the competition's recordings ------------------------------------------------------------------


def teleoperated(path: Path, lengths: tuple[int, ...], done: tuple[bool, ...] | None) -> Any:
    """As collect_data.py writes: its controller's clock runs on when an episode begins."""
    rows, clock = [], 0
    for task, steps in enumerate(lengths):
        seen = RNG.standard_normal((steps, game.OBSERVATION_SIZE))
        seen[0, :24] = 0.0  # joints at rest
        seen[:, -3:] = np.eye(3)[task % 3]
        acts = []
        for _ in range(steps):
            if clock % 10 == 0:
                held = RNG.uniform(-1, 1, 12).astype(np.float32)
            acts.append(held)
            clock += 1
        rows.append((seen, np.array(acts)))
    ends = np.zeros(sum(lengths), bool)
    if done is not None:
        ends[np.cumsum(lengths) - 1] = done
    arrays = {"observations": np.concatenate([r[0] for r in rows])}
    arrays["actions"] = np.concatenate([r[1] for r in rows])
    np.savez(path, **arrays, **({} if done is None else {"done": ends}))
    return rows


@pytest.mark.parametrize("done", [(True, False, True), None])
def test_teleoperation_comes_at_the_control_rate(tmp_path: Path, done: Any) -> None:
    rows = teleoperated(tmp_path / "session.npz", (47, 60, 25), done)
    options = [] if done else ["--format", "teleoperation"]
    dataset = converted(tmp_path / "session.npz", tmp_path / "made", *options)
    episodes = list(dataset.episodes())
    assert [e.about["task"] for e in episodes] == list(game.TASKS)
    offsets = (0, 3, 3)  # to the next multiple of ten on the clock: 0, 47, 107
    for episode, (seen, acts), first in zip(episodes, rows, offsets, strict=True):
        at = np.arange(first, len(seen), 10)
        np.testing.assert_allclose(episode.observations, seen[at], rtol=1e-6)
        np.testing.assert_array_equal(episode.actions, acts[at[:-1]])
        assert not episode.terminated
    assert dataset.about["settings"]["action_scale"] == 1.0 and not dataset.about["rewards"]


def test_another_rate_is_refused(tmp_path: Path) -> None:
    seen = RNG.standard_normal((30, game.OBSERVATION_SIZE))
    np.savez(
        tmp_path / "fast.npz", observations=seen, actions=RNG.uniform(-1, 1, (30, 12)),
        done=np.zeros(30, bool),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="change within 10 rows, expected 50 Hz"):
        converted(tmp_path / "fast.npz", tmp_path / "made")
