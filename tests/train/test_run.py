"""A run in its directory: recorded once, killed anywhere, resumed to the same end."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train.trees import CLOCKS, differing

from booster_ray.config import SAC, Config, ConfigError, load
from booster_ray.rl.sac.learner import Sac
from booster_ray.store import checkpoint, writer
from booster_ray.store.checkpoint import CheckpointError, store
from booster_ray.store.checkpoint.leaves import flatten
from booster_ray.store.failure import read_failure
from booster_ray.store.files import (
    CONFIG,
    ERROR,
    PROGRESS,
    RUN_LOCK,
    best_checkpoint,
    read_progress,
)
from booster_ray.store.remote import RemoteFolder, StorageError
from booster_ray.train import pretrain, runner
from booster_ray.train.run import Run

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"
OVERRIDES = [
    "training.env_steps=420",
    "training.report_every=30",
    "evaluation.every=210",
    "checkpoint.every_env_steps=60",
    "sac.replay_size=128",
    "world.episode_seconds=0.3",
    "randomization.level=3",
]
SETTINGS = load(DEBUG, OVERRIDES).base()
LAST = "step_000000000420"

CHILD = """
import sys
from pathlib import Path
from booster_ray.config import load
from booster_ray.train.run import Run
config = load(sys.argv[1], sys.argv[3:]).base()
for metrics in Run(config, Path(sys.argv[2])):
    print(metrics["env_steps"], flush=True)
"""


@cache
def compiled(sac: SAC) -> Sac:
    return Sac(sac, 89, 12)


@pytest.fixture(scope="module", autouse=True)
def _compile_once() -> Iterator[None]:
    """A learner holds no state, so one serves every run of its config."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "make_learner", lambda config, *sizes: compiled(config.sac))
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(directory)
    return directory


@pytest.fixture
def copied(undisturbed: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(undisturbed, tmp_path / "run"))


def finish(directory: Path, config: Config = SETTINGS) -> Run:
    """Run to the end and hold every report against the file."""
    run = Run(config, directory)
    for metrics in run:
        assert read_progress(directory)[-1] == metrics
    return run


def progress(directory: Path) -> list[dict[str, float]]:
    """The recorded reports without what depends on the clock."""
    reports = read_progress(directory)
    assert len(reports) == len((directory / PROGRESS).read_text().splitlines())
    return [{k: v for k, v in r.items() if k not in CLOCKS} for r in reports]


def names(directory: Path, pattern: str = "*_0*") -> list[str]:
    return sorted(path.name for path in directory.glob(pattern))


def assert_same_end(directory: Path, reference: Path) -> None:
    """Reports, checkpoints on disk, and every leaf of the last."""
    steps = [r["env_steps"] for r in progress(directory)]
    assert steps == sorted(set(steps))
    recorded = {r["env_steps"]: r for r in progress(directory)}
    for report in progress(reference):
        assert recorded[report["env_steps"]] == report
    assert best_name(directory) == best_name(reference)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine, _ = checkpoint.load(directory / LAST)
        theirs, _ = checkpoint.load(reference / LAST)
        checkpoint.load(directory / best_name(directory))
    one, other = dict(flatten(mine)), dict(flatten(theirs))
    assert one.keys() == other.keys()
    unequal = [name for name in one if not np.array_equal(one[name], other[name])]
    assert unequal == []


def best_name(directory: Path) -> str:
    found = best_checkpoint(directory)
    assert found is not None
    return found.name


def damage(path: Path) -> Path:
    """Flip one bit in the largest file of a checkpoint."""
    file = max(path.iterdir(), key=lambda f: f.stat().st_size)
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    return file


def stop_at(env_steps: int, directory: Path) -> Run:
    """Interrupt after the report at ``env_steps``; -1: before anything."""
    interrupt = threading.Event()
    run = Run(SETTINGS, directory, interrupt)
    if env_steps < 0:
        interrupt.set()
    for metrics in run:
        if metrics["env_steps"] == env_steps:
            interrupt.set()
    return run


# --- what a run leaves ---


def test_a_run_leaves_its_config_its_reports_and_the_checkpoints_asked_for(
    undisturbed: Path,
) -> None:
    assert load(undisturbed / CONFIG).base() == SETTINGS
    reports = read_progress(undisturbed)
    assert [r["env_steps"] for r in reports] == list(range(0, 421, 30))
    assert [r["env_steps"] for r in reports if "score" in r] == [0, 210, 420]
    wall = [r["wall_seconds"] for r in reports]
    assert wall == sorted(wall)
    assert wall[0] > 0
    assert names(undisturbed, "step_*") == ["step_000000000360", LAST]
    assert not list(undisturbed.glob(".*tmp*"))


def test_the_best_is_the_learner_of_the_highest_score(undisturbed: Path) -> None:
    scored = [r for r in read_progress(undisturbed) if "score" in r]
    best = max(scored, key=lambda r: r["score"])
    assert names(undisturbed, "best_*") == [f"best_{best['env_steps']:012d}"]
    tree, metadata = checkpoint.load(undisturbed / best_name(undisturbed))
    assert list(tree) == ["learner"]
    assert metadata["score"] == best["score"]
    assert metadata["digest"] == SETTINGS.digest()
    assert Config.model_validate(metadata["config"]) == SETTINGS


@pytest.mark.parametrize(("scores", "expected"), [([0.1, 0.5, 0.5], 210), ([0.1, 0.2, 0.3], 420)])
def test_the_best_follows_the_scores(
    scores: list[float], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter(scores)
    monkeypatch.setattr(runner.Runner, "_evaluate", lambda self: {"score": next(given)})
    finish(tmp_path)
    assert best_name(tmp_path) == f"best_{expected:012d}"
    assert len(names(tmp_path, "best_*")) == 1


def test_as_many_checkpoints_are_kept_as_asked_for(tmp_path: Path) -> None:
    kept = SETTINGS.checkpoint.model_copy(update={"keep": 4})
    finish(tmp_path, SETTINGS.model_copy(update={"checkpoint": kept}))
    steps = range(60, 421, 60)
    assert names(tmp_path, "step_*") == [f"step_{s:012d}" for s in steps[-4:]]


def test_minutes_ask_for_checkpoints_too(tmp_path: Path) -> None:
    often = {"every_env_steps": 10_000, "every_minutes": 1e-9, "keep": 100}
    settings = SETTINGS.checkpoint.model_copy(update=often)
    finish(tmp_path, SETTINGS.model_copy(update={"checkpoint": settings}))
    assert names(tmp_path, "step_*") == [f"step_{s:012d}" for s in range(0, 421, 30)]


def test_a_finished_run_is_left_as_it_is(copied: Path) -> None:
    def content() -> dict[Path, bytes]:
        files = (p for p in copied.rglob("*") if p.is_file() and p.name != RUN_LOCK)
        return {p: p.read_bytes() for p in files}

    before = content()
    assert list(Run(SETTINGS, copied)) == []
    assert content() == before


# --- another config ---


def test_another_config_is_refused_and_nothing_is_touched(copied: Path) -> None:
    before = (copied / CONFIG).read_text(), progress(copied)
    other = Run(load(DEBUG, [*OVERRIDES, "seed=7"]).base(), copied)
    with pytest.raises(ConfigError, match="run of another config; choose another name"):
        list(other)
    assert ((copied / CONFIG).read_text(), progress(copied)) == before
    # The refused run lets go of the directory, even while it is still around.
    assert list(Run(SETTINGS, copied)) == []


# --- interrupted ---


@pytest.mark.parametrize("env_steps", [-1, 0, 210, 390])
def test_an_interrupted_run_resumes_to_the_same_end(
    env_steps: int, undisturbed: Path, tmp_path: Path
) -> None:
    run = stop_at(env_steps, tmp_path)
    assert run.interrupted
    reached = env_steps + 6 if env_steps >= 0 else 0
    recorded = read_progress(tmp_path)
    # What is stopped before its first evaluation has nothing to report yet.
    assert [m["env_steps"] for m in recorded[-1:]] == ([] if env_steps < 0 else [reached])
    assert names(tmp_path, "step_*")[-1] == f"step_{reached:012d}"
    before = recorded[-1]["wall_seconds"] if recorded else 0.0
    run = finish(tmp_path)
    assert not run.interrupted
    assert_same_end(tmp_path, undisturbed)
    extra = {reached} - set(range(0, 421, 30))
    assert len(progress(tmp_path)) == len(progress(undisturbed)) + len(extra)
    wall = [r["wall_seconds"] for r in read_progress(tmp_path)]  # summed over the attempts
    assert wall == sorted(wall)
    assert wall[-1] > before


# --- damaged ---


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    copied: Path, undisturbed: Path
) -> None:
    file = damage(copied / LAST)
    with pytest.warns(UserWarning, match="damaged checkpoint passed over") as caught:
        reports = [m["env_steps"] for m in Run(SETTINGS, copied)]
    assert str(file) in str(caught[0].message)
    assert reports == [390, 420]
    assert_same_end(copied, undisturbed)  # the damaged one was written anew
    assert names(copied, "step_*") == names(undisturbed, "step_*")


def test_a_torn_manifest_falls_back_too(tmp_path: Path, undisturbed: Path) -> None:
    stop_at(210, tmp_path)
    manifest = tmp_path / "step_000000000216" / "manifest.json"
    manifest.write_text(manifest.read_text()[:1000])
    with pytest.warns(UserWarning, match=str(manifest)):
        finish(tmp_path)
    assert_same_end(tmp_path, undisturbed)
    assert len(progress(tmp_path)) == len(progress(undisturbed))  # 216 was taken back


def test_when_all_are_damaged_the_run_stops_and_keeps_its_records(copied: Path) -> None:
    before = (copied / PROGRESS).read_text()
    for path in copied.glob("step_*"):
        damage(path)
    run = Run(SETTINGS, copied)
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match=r"all 2 .* damaged"):
        list(run)
    assert (copied / PROGRESS).read_text() == before
    shutil.rmtree(copied / LAST)
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="all 1 "):
        list(Run(SETTINGS, copied))


def test_a_folder_that_cannot_be_listed_for_a_moment_costs_nothing(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not a folder without checkpoints, from which a run would begin anew."""
    before, listdir = progress(copied), os.listdir

    def failing(path: Any = ".") -> list[str]:
        if Path(path) == copied:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return listdir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", failing)
        with pytest.raises(StorageError, match="Stale file handle"):
            finish(copied)
    assert progress(copied) == before
    assert list(Run(SETTINGS, copied)) == []


def scored(patch: pytest.MonkeyPatch, *scores: float) -> None:
    """Evaluations from now on give ``scores``."""
    given = iter(scores)
    patch.setattr(runner.Runner, "_evaluate", lambda self: {"score": next(given)})


def test_a_damaged_best_is_written_anew_while_its_policy_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 0.1, 0.2, 0.3)
    finish(tmp_path)
    best = tmp_path / "best_000000000420"
    before, metadata = checkpoint.load(best)
    file = damage(best)
    with pytest.warns(UserWarning, match=str(file)):
        assert list(Run(SETTINGS, tmp_path)) == []
    after, again = checkpoint.load(best)
    assert differing(before, after) == []
    assert again == metadata


def test_a_damaged_best_that_is_lost_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 0.9)
    stop_at(60, tmp_path)
    damage(tmp_path / "best_000000000000")
    scored(monkeypatch, 0.2, 0.1)
    with pytest.warns(UserWarning, match="best_000000000000"):
        finish(tmp_path)
    assert names(tmp_path, "best_*") == ["best_000000000210"]


# --- storage that fails ---


def test_an_outage_costs_checkpoints_and_not_the_run(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def failing(path: Path, staged: Any) -> int:
        tries.append(path.name)
        if path.name.startswith("step_") and path.name < "step_000000000240":
            raise OSError(5, "Input/output error")
        return store.write(path, staged)

    monkeypatch.setattr(writer, "write", failing)
    with pytest.warns(UserWarning, match="step_000000000060: not written: Input/output error"):
        finish(tmp_path)
    # Nothing of what was due later is missing.
    assert [t for t in dict.fromkeys(tries) if t[0] == "s"] == [
        f"step_{n:012d}" for n in range(60, 421, 60)
    ]
    monkeypatch.undo()
    assert names(tmp_path, "step_*") == names(undisturbed, "step_*")
    assert progress(tmp_path) == progress(undisturbed)


def test_a_run_whose_end_cannot_be_saved_fails(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, staged: Any) -> int:
        if path.name == LAST:
            raise OSError(28, "No space left on device")
        return store.write(path, staged)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write", failing)
        patch.setattr(writer, "FINAL_SECONDS", 0.0)
        reports = []
        with pytest.warns(UserWarning), pytest.raises(OSError, match="No space left"):
            reports.extend(metrics["env_steps"] for metrics in Run(SETTINGS, tmp_path))
    assert 420 not in reports  # who hears of the end may count on its checkpoint
    assert "No space left" in (tmp_path / ERROR).read_text()
    found = read_failure(tmp_path)
    assert found is not None and found.how == "storage"
    finish(tmp_path)
    assert read_failure(tmp_path) is None
    assert_same_end(tmp_path, undisturbed)


@pytest.mark.parametrize("where", ["advance", "state"])
def test_an_oserror_of_the_loop_is_not_storages(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the world's state is read while a checkpoint is written."""

    def failing(*args: Any) -> Any:
        raise FileNotFoundError(2, "No such file", "map.png")

    monkeypatch.setattr(f"booster_ray.train.host_collector.HostCollector.{where}", failing)
    with pytest.raises(FileNotFoundError):
        list(Run(SETTINGS, tmp_path))
    found = read_failure(tmp_path)
    assert found is not None and found.how == "error"
    assert found.text.startswith(
        "FileNotFoundError: [Errno 2] No such file: 'map.png' (test_run.py:"
    )
    assert (tmp_path / ERROR).read_text() == found.text
    assert "in failing\n" in (tmp_path / "traceback.txt").read_text()


def test_who_asks_the_process_to_exit_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "booster_ray.train.host_collector.HostCollector.advance", lambda *_: sys.exit(0)
    )
    with pytest.raises(RuntimeError, match=r"asked the process to exit \(0\)"):
        list(Run(SETTINGS, tmp_path))
    assert "LeftEarly" in (tmp_path / ERROR).read_text()


def test_on_remote_storage_any_machine_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    config = SETTINGS.model_copy(update={"storage": f"memory://{tmp_path.name}", "name": "far"})
    interrupt = threading.Event()
    for metrics in Run(config, tmp_path / "one" / "far", interrupt):
        if metrics["env_steps"] == 210:
            interrupt.set()
    finish(tmp_path / "two" / "far", config)
    assert_same_end(tmp_path / "two" / "far", undisturbed)
    # A third finds it finished, with all that it left.
    assert list(Run(config, tmp_path / "three" / "far")) == []
    assert_same_end(tmp_path / "three" / "far", undisturbed)
    folder = RemoteFolder(config.storage)
    assert folder.read("far/progress.jsonl") == (tmp_path / "two/far" / PROGRESS).read_bytes()
    assert folder.read("far/config.yaml") is not None


# --- killed ---


def test_reports_beyond_the_checkpoint_are_taken_back(undisturbed: Path, tmp_path: Path) -> None:
    """Killed after the report at 270, within the line of 300; the checkpoint is of 240."""
    run = iter(Run(SETTINGS, tmp_path))
    while next(run)["env_steps"] < 270:
        pass
    run.close()  # type: ignore[attr-defined]
    with (tmp_path / PROGRESS).open("a") as stream:
        stream.write('{"env_steps": 300, "criti')
    assert [r["env_steps"] for r in read_progress(tmp_path)][-2:] == [240, 270]
    assert next(iter(Run(SETTINGS, tmp_path)))["env_steps"] == 270
    finish(tmp_path)
    assert progress(tmp_path) == progress(undisturbed)
    assert_same_end(tmp_path, undisturbed)


def start(directory: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # What XLA:CPU says of cached programs would fill the pipe, which nobody reads meanwhile.
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-c", CHILD, str(DEBUG), str(directory), *OVERRIDES]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_the_same(
    kills: int, undisturbed: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    seed = random.randrange(10**6)
    print("seed", seed)  # the moments also hang on the machine's load
    moments, killed = random.Random(seed), 0
    for attempt in range(kills):
        process = start(directory)
        assert process.stdout is not None
        # Anywhere in the next reports' training, evaluating, recording and saving.
        for _ in range(moments.randint(1, 4)):
            process.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.15))
        process.kill()
        process.communicate()
        killed += process.returncode == -9
        steps = [r["env_steps"] for r in read_progress(directory)]
        assert steps == sorted(set(steps)), (seed, attempt)
    assert killed, "every attempt had finished before it was killed"
    process = start(directory)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Warning" not in errors  # a kill tears nothing
    assert progress(directory) == progress(undisturbed), seed
    assert_same_end(directory, undisturbed)
    assert names(directory) == names(undisturbed)
    assert not list(directory.glob(".*tmp*"))
    assert json.loads(output.splitlines()[-1]) == 420


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A second process waits until the first has let go."""
    first = iter(Run(SETTINGS, tmp_path))
    next(first)
    second: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: second.extend(Run(SETTINGS, tmp_path)), daemon=True)
    waiting.start()
    time.sleep(0.3)
    assert not second
    first.close()  # type: ignore[attr-defined]
    waiting.join(60)
    assert second[-1]["env_steps"] == 420


def test_a_finished_trial_keeps_no_replay_and_a_single_run_does(
    tmp_path: Path, copied: Path
) -> None:
    assert "rows" in checkpoint.load(copied / LAST)[0]["replay"]
    trial = tmp_path / "sweep" / "trials" / "0000"
    finish(trial)
    (newest,) = trial.glob("step_*")
    assert "rows" not in checkpoint.load(newest)[0]["replay"]
    assert not list((trial / "segments").iterdir()) and best_checkpoint(trial)
    assert list(Run(SETTINGS, trial)) == []  # another attempt, whose driver did not hear of its end
    assert len(read_progress(trial)) == len(read_progress(copied))
    more = SETTINGS.training.model_copy(update={"env_steps": 480})
    (trial / CONFIG).write_text(SETTINGS.model_copy(update={"training": more}).to_yaml())
    longer = SETTINGS.model_copy(update={"training": more})
    with pytest.raises(CheckpointError, match=r"without its replay.*checkpoint\.keep_replay=true"):
        list(Run(longer, trial))


def test_a_trial_that_is_to_keep_its_replay_does(tmp_path: Path) -> None:
    checkpointing = SETTINGS.checkpoint.model_copy(update={"keep_replay": True})
    trial = tmp_path / "trials" / "0000"
    list(Run(SETTINGS.model_copy(update={"checkpoint": checkpointing}), trial))
    assert "rows" in checkpoint.load(trial / LAST)[0]["replay"]
    assert list(Run(SETTINGS, trial)) == []  # it may change its mind
