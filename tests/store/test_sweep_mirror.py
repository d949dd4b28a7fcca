"""A sweep on storage that only takes whole files: another machine knows what this one did."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import driving
import pytest

from booster_ray.config import Config, load
from booster_ray.store import address, folder
from booster_ray.store import remote as storage
from booster_ray.store.address import Address
from booster_ray.store.attempts import add_attempt, new_attempt, read_attempts
from booster_ray.store.files import (
    ATTEMPTS,
    ERROR,
    NOTICE_FILE,
    POPULATION,
    PROGRESS,
    SPENT,
    STOP_FILE,
    SWEEP,
)
from booster_ray.store.sweep_mirror import SweepMirror, collect, sweep_here


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A mounted object store."""
    path = tmp_path / "volume"
    path.mkdir()
    monkeypatch.setattr(storage, "VOLUMES", (f"{tmp_path}/volume",))
    return str(path)


class Machine:
    """One machine's view of the sweep."""

    def __init__(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._scratch, self._patch = tmp_path / name, monkeypatch
        self._scratch.mkdir()
        self.enter()

    def enter(self) -> None:
        self._patch.setenv("TMPDIR", str(self._scratch))

    def root(self, config: Config) -> Path:
        self.enter()
        path = folder.storage_path(config.storage) / config.name
        path.mkdir(parents=True, exist_ok=True)
        return path


def record(directory: Path, env_steps: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PROGRESS).write_text(json.dumps({"env_steps": env_steps}) + "\n")


def test_a_fresh_machine_knows_what_is_spent_and_who_copied_whom(
    tmp_path: Path, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load("debug", [f"storage={volume}"]).base()
    first, second = (Machine(name, tmp_path, monkeypatch) for name in "ab")
    root = first.root(config)
    (root / SPENT).write_text('{"hours": 2, "trial_hours": 3}')
    SweepMirror(config, root).share()
    SweepMirror(config, root).keep_text(POPULATION, "[1]")
    other = second.root(config)
    assert other != root
    SweepMirror(config, other).fetch()
    assert json.loads((other / SPENT).read_text())["hours"] == 2
    assert (other / POPULATION).read_text() == "[1]"
    # The first, when it is back, takes what the second has left, and no smaller bill.
    SweepMirror(config, other).keep_text(POPULATION, "[2]")
    (root / SPENT).write_text('{"hours": 5, "trial_hours": 3}')
    SweepMirror(config, first.root(config)).fetch()
    assert (root / POPULATION).read_text() == "[2]"
    assert json.loads((root / SPENT).read_text())["hours"] == 5
    assert {p.name for p in root.iterdir()} == {POPULATION, SPENT}


def test_records_of_a_trial_elsewhere_come_back_unless_ours_say_more(
    tmp_path: Path, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load("debug", [f"storage={volume}"]).base()
    here, there = (Machine(name, tmp_path, monkeypatch) for name in "ab")
    away = there.root(config) / "trials" / "0000"
    record(away, 300)
    (away / ERROR).write_text("ValueError: x")
    add_attempt(away, new_attempt(away), "preempted", "SIGTERM", 0.1)
    for name in (PROGRESS, ERROR, ATTEMPTS):
        folder.publish(config, away / name)
    root = here.root(config)
    mine = root / "trials" / "0000"
    record(mine, 150)
    (mine / ERROR).write_text("of an attempt before")
    SweepMirror(config, root).collect(mine)
    assert json.loads((mine / PROGRESS).read_text())["env_steps"] == 300
    assert (mine / ERROR).read_text() == "ValueError: x" and len(read_attempts(mine)) == 1
    record(mine, 450)  # killed here before it was copied
    SweepMirror(config, root).collect(mine)
    assert json.loads((mine / PROGRESS).read_text())["env_steps"] == 450
    assert {p.name for p in root.iterdir()} == {"trials"}


def test_trackers_see_trials_elsewhere_and_leave_those_that_run_here_alone(
    tmp_path: Path, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = load("debug", [f"storage={volume}"])
    config = sweep.base()
    here, there = (Machine(name, tmp_path, monkeypatch) for name in "ab")
    for number in range(2):
        away = there.root(config) / "trials" / f"{number:04d}"
        record(away, 300)
        folder.publish(config, away / PROGRESS)
    root = here.root(config)
    collect(config, root)  # no sweep's folder yet
    assert list(root.iterdir()) == []
    (root / SWEEP).write_text(sweep.complete().to_yaml())
    ours = root / "trials" / "0001"
    record(ours, 150)
    with (ours / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        collect(config, root)
    known = [json.loads((root / "trials" / n / PROGRESS).read_text()) for n in ("0000", "0001")]
    assert [row["env_steps"] for row in known] == [300, 150]
    collect(config, root)
    assert json.loads((ours / PROGRESS).read_text())["env_steps"] == 300


def test_a_trial_elsewhere_reads_the_sweep_and_sees_its_stop(
    tmp_path: Path, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "POLL_SECONDS", 0.1)
    sweep = load("debug", [f"storage={volume}"])
    config = sweep.base()
    driver, worker = (Machine(name, tmp_path, monkeypatch) for name in "ab")
    root = driver.root(config)
    (root / SWEEP).write_text(sweep.complete().to_yaml())
    folder.publish(config, root / SWEEP)
    worker.enter()
    worker.root(config).joinpath(STOP_FILE).touch()  # of a stop long ago
    trial = Address.of(config, root, 3)
    assert sweep_here(trial).space == sweep.space
    there, run = trial.root, trial.open_here()
    assert there != root and run == there / "trials" / "0003"
    assert not (there / STOP_FILE).exists()
    driver.enter()
    (root / STOP_FILE).touch()
    SweepMirror(config, root).stop(wanted=True)
    trial.ask_to_make_way()
    driving.wait_for(lambda: (there / STOP_FILE).exists() and (run / NOTICE_FILE).exists())
    SweepMirror(config, root).stop(wanted=False)
    trial.begin_attempt()
    assert NOTICE_FILE not in [p.name for p in (Path(volume) / config.name).rglob("*")]
    assert STOP_FILE not in [p.name for p in (Path(volume) / config.name).iterdir()]


def test_what_a_sweep_ends_with_goes_there_wholly(
    tmp_path: Path, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load("debug", [f"storage={volume}"]).base()
    root = Machine("a", tmp_path, monkeypatch).root(config)
    made = ["report.html", "best/checkpoint/manifest.json", "best/scores.json", "package/main.py"]
    for name in made:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    SweepMirror(config, root).share_results()
    there = Path(volume) / config.name
    assert [(there / name).read_text() for name in made] == made


def test_local_storage_is_left_alone(tmp_path: Path) -> None:
    config = load("debug", [f"storage={tmp_path}"]).base()
    root = tmp_path / "debug"
    record(root / "trials" / "0000", 150)
    shared = SweepMirror(config, root)
    for act in (shared.fetch, shared.share, shared.share_results):
        act()
    shared.stop(wanted=True)
    shared.collect(root / "trials" / "0000")
    assert [p.name for p in root.rglob("*") if p.is_file()] == [PROGRESS]
