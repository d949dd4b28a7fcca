"""What is recorded is what was played; Minari reads it; nothing is lost or made twice by a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from data.recording import STRIKER, record, shards

from booster_ray.config import ConfigError
from booster_ray.data import job
from booster_ray.data import record as recording
from booster_ray.data.command import main
from booster_ray.data.dataset import CLEAN, TERMS, Dataset, split_of
from booster_ray.evaluate.play import play_native
from booster_ray.evaluate.target import load_target
from booster_ray.soccer import game

STANDER = "booster_ray.policy.experts.stander:Stander"


def test_minari_opens_it(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(recorded.parent))
    dataset = minari.load_dataset("striker-v0")
    assert dataset.total_episodes == 6
    assert dataset.total_steps == sum(len(e) for e in dataset)
    abouts = list(dataset.storage.get_episode_metadata(range(6)))
    assert sorted((a["task"], int(a["seed"])) for a in abouts) == sorted(
        (task, seed) for task in game.TASKS for seed in (10_000, 10_001)
    )
    for episode, about in zip(dataset, abouts, strict=True):
        steps = len(episode)
        assert episode.observations.shape == (steps + 1, 112)
        assert episode.actions.shape == (steps, 12)
        assert dataset.action_space.contains(episode.actions[0])
        assert episode.terminations[-1] ^ episode.truncations[-1]
        assert not (episode.terminations[:-1] | episode.truncations[:-1]).any()
        assert episode.rewards.sum() == pytest.approx(about["score"], abs=1e-5)
        assert about["seconds"] == pytest.approx(0.02 * steps, abs=0.02)
        one_hot = episode.observations[:, 86:89]
        assert (one_hot.argmax(axis=1) == game.TASKS.index(about["task"])).all()
        terms = episode.infos[TERMS]
        assert terms.shape == (steps + 1, len(recording.term_names())) and not terms[0].any()
        assert terms[:, recording.term_names().index("alive")].sum() >= steps - 1


def test_noise_is_played_and_the_policys_own_action_kept(recorded: Path) -> None:
    deviations = []
    for episode in Dataset(recorded).episodes():
        clean = np.asarray(episode.infos[CLEAN])[:-1]
        deviations.append(float(np.std(episode.actions - clean)))
    # Twice the mean deviation times a number of the golden sequence: each task has both.
    first, second = (0.06 * ((i + 1) * recording.GOLDEN % 1.0) for i in range(2))
    assert deviations == pytest.approx([first, second] * 3, rel=0.1)


def test_without_noise_the_episodes_are_evaluates_own(tmp_path: Path) -> None:
    args = ("--episodes", "1", "--seed", "1003", "--tasks", "goalie")
    assert record(tmp_path / "plain", STRIKER, *args) == 0
    (told,) = Dataset(tmp_path / "plain").abouts()
    (episode,) = play_native([1003], load_target(STRIKER).make_player, tasks=["goalie"])
    # A package's torques are rounded to float32.
    assert told["score"] == pytest.approx(episode.score, abs=0.01)
    assert told["seconds"] == pytest.approx(episode.seconds, abs=0.01)


def test_equal_episodes_are_recorded_once() -> None:
    plan = recording.Plan(STRIKER, None, "native", game.TASKS, 0.0, 0.1)
    goalie, *others = recording.batches(plan, 7, 3)
    assert [one[:2] for one in goalie.episodes] == [("goalie", 7)]
    assert [len(batch.episodes) for batch in others] == [3, 3]


def test_an_expert_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("--episodes", "1", "--tasks", "kick_to_target", "--config", "stand")
    monkeypatch.chdir(Path(STRIKER).parents[1])
    assert record(tmp_path / "stand", STANDER, *args) == 0
    (episode,) = Dataset(tmp_path / "stand").episodes()
    assert 100 < len(episode.rewards) <= 500
    assert Dataset(tmp_path / "stand").about["kind"] == "expert"


@pytest.mark.slow
def test_the_official_environment_gives_the_same_episodes(tmp_path: Path) -> None:
    args = ("--episodes", "1", "--tasks", "kick_to_target", "--noise", "0.02")
    assert record(tmp_path / "native", STRIKER, *args) == 0
    assert record(tmp_path / "official", STRIKER, *args, "--world", "official") == 0
    (one,), (other,) = (Dataset(tmp_path / w).episodes() for w in ("native", "official"))
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_allclose(one.observations, other.observations, atol=1e-5)
    np.testing.assert_allclose(one.infos[TERMS], other.infos[TERMS], atol=1e-6)
    assert one.about["score"] == pytest.approx(other.about["score"], abs=1e-6)


# -- going on --------------------------------------------------------------------------------------


def test_a_recording_that_was_cut_goes_on(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = tmp_path / "striker-v0"
    monkeypatch.setattr(recording, "A_SHARD", 2)
    make, made = recording.make, []

    def cut(batch: recording.Batch, path: Path) -> int:
        if len(made) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        made.append(path.name)
        return make(batch, path)

    monkeypatch.setattr(recording, "make", cut)
    args = ("--episodes", "2", "--noise", "0.03")
    assert record(folder, STRIKER, *args) == 130
    out = capsys.readouterr().out
    assert f"python -m booster_ray.data record {STRIKER} --output {folder}" in out
    assert len(shards(folder)) == 2 and not (folder / "data/metadata.json").exists()
    with pytest.raises(ConfigError, match="is unfinished"):
        Dataset(folder)
    (folder / "data" / ".shard_00002.hdf5.tmp-aa").write_bytes(b"torn")
    assert record(folder, STRIKER, *args) == 0
    assert made == ["shard_00000.hdf5", "shard_00001.hdf5", "shard_00002.hdf5"]
    assert shards(folder) == shards(recorded)
    assert Dataset(folder).digest == Dataset(recorded).digest
    capsys.readouterr()
    assert record(folder, STRIKER, *args) == 0 and len(made) == 3
    assert "Finished before" in capsys.readouterr().out


def test_a_damaged_shard_is_named_and_can_be_made_again(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(recorded, tmp_path / "striker-v0"))
    monkeypatch.setattr(recording, "A_SHARD", 2)
    victim = folder / "data/shard_00001.hdf5"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ConfigError, match=r"shard_00001.hdf5: is damaged: its SHA-256"):
        main(["info", str(folder)])
    victim.unlink()
    with pytest.raises(ConfigError, match=r"shard_00001.hdf5: is missing"):
        main(["info", str(folder)])
    assert record(folder, STRIKER, "--episodes", "2", "--noise", "0.03") == 0
    assert shards(folder) == shards(recorded)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--episodes", "3", "--noise", "0.03"], "episodes is 2 there, here 3"),
        (["--episodes", "2", "--noise", "0.1"], "noise is 0.03 there, here 0.1"),
    ],
)
def test_another_recording_is_not_mixed_in(recorded: Path, args: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        record(recorded, STRIKER, *args)


def test_what_cannot_be_recorded(tmp_path: Path) -> None:
    def refused(target: str, *args: str) -> str:
        with pytest.raises(ConfigError) as caught:
            record(tmp_path / "new", target, "--episodes", "1", *args)
        assert not (tmp_path / "new").exists()
        return str(caught.value)

    assert "nowhere is not there" in refused("nowhere")
    assert "No module named" in refused("no.such:Expert")
    assert "has no method targets" in refused("collections:OrderedDict")
    assert "is not for" in refused(STRIKER, "--config", "stand")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        record(tmp_path / "full", STRIKER, "--episodes", "1")


def test_two_do_not_write_one_folder(tmp_path: Path) -> None:
    with (
        job.begun(tmp_path / "one", {"command": "record"}),
        pytest.raises(ConfigError, match="another process"),
        job.begun(tmp_path / "one", {"command": "record"}),
    ):
        pass


def test_a_seed_is_in_one_part() -> None:
    parts = [split_of(seed, 0.1) for seed in range(1000)]
    assert parts.count("validation") == 100
    assert all(split_of(seed, 0.0) == "train" for seed in range(50))


COMMAND = """
import sys
from booster_ray.data import record
record.A_SHARD = 2
if __name__ == "__main__":
    from booster_ray.data.command import main
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_processes_leave_nothing_behind(recorded: Path, tmp_path: Path) -> None:
    folder, script = tmp_path / "striker-v0", tmp_path / "command.py"
    script.write_text(COMMAND)
    args = ["record", STRIKER, "--output", str(folder), "--episodes", "2", "--noise", "0.03"]
    args += ["--validation", "0.5", "--processes", "2"]
    process = subprocess.Popen([sys.executable, str(script), *args], start_new_session=True)
    until = time.monotonic() + 300
    while not shards(folder) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(job.WATCH_SECONDS + 1)
    alive = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True)
    assert alive.stdout == ""
    subprocess.run([sys.executable, str(script), *args], check=True, timeout=300)
    assert shards(folder) == shards(recorded)
