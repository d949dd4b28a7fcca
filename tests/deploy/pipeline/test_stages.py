"""Stages with runs that are made up: what they find, refuse and say. Real ones: test_pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from track.made import SCORES, judge, run_folder

from booster_ray.config import ConfigError, Sweep
from booster_ray.deploy.pipeline import submission, training
from booster_ray.deploy.pipeline.command import main
from booster_ray.deploy.pipeline.definition import Folder, read
from booster_ray.deploy.pipeline.stages import Job, run_stage
from booster_ray.store.files import best_checkpoint
from booster_ray.store.gate_results import digest
from booster_ray.track.registry import open_registry

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "SAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def job(tmp_path: Path, begun_mlflow: Path) -> Job:
    given = [f"storage={tmp_path}", f"models.cache={tmp_path / 'cache'}", "sac.actor_hidden=[16]"]
    pipeline = read("debug", given)
    folder = Folder(str(tmp_path), "debug")
    folder.begin(pipeline)
    return Job(pipeline, folder)


def made(tmp_path: Path, name: str, *, gate_3: bool | None = None, **settings: Any) -> Path:
    """The folder of a run that has ended."""
    run = run_folder(tmp_path / name, storage=str(tmp_path), **settings)
    source = best_checkpoint(run)
    assert source is not None
    if gate_3 is not None:
        judge(run, source, gate_3=gate_3)
    return run


def register(job: Job, run: Path, stage: str) -> Any:
    config = job.pipeline.config(stage)
    source = best_checkpoint(run)
    assert source is not None
    return training.register(config, training.Best(run, source, {}), print)


# -- input by alias --------------------------------------------------------------------------


def test_a_stage_without_its_input_says_which_makes_it(job: Job) -> None:
    for stage, maker in (("convert", "pretrain"), ("finetune", "pretrain"), ("submit", "finetune")):
        with pytest.raises(
            ConfigError, match=rf"^{stage}: .*no model 'debug'.*stage {maker} makes"
        ):
            run_stage(stage, job)
    assert job.folder.done("convert") is None


def test_finetuning_wants_a_policy_that_was_converted(job: Job, tmp_path: Path) -> None:
    version = register(job, made(tmp_path, "first"), "pretrain")
    assert version.number == 1 and "candidate-pretrain" in version.aliases
    with pytest.raises(ConfigError, match=r"debug version 1 is not through gate 2; .*convert"):
        run_stage("finetune", job)


def test_registering_twice_makes_one_version(job: Job, tmp_path: Path) -> None:
    run = made(tmp_path, "first")
    assert register(job, run, "pretrain").number == register(job, run, "pretrain").number == 1


def test_a_threshold_stops_the_pipeline(tmp_path: Path) -> None:
    pipeline = read("debug", [f"storage={tmp_path}", "models.minimum_score=5.0"])
    run = made(tmp_path, "first")
    source = best_checkpoint(run)
    assert source is not None
    best = training.Best(run, source, {})
    said: list[str] = []
    assert training.register(pipeline.config("pretrain"), best, said.append) is None
    assert "its score 1.5 is below the minimum 5" in said[0]


def test_a_beginning_that_was_cut_short_is_begun_again(job: Job, tmp_path: Path) -> None:
    sweep: Sweep = job.pipeline.sweeps["finetune"]
    root = tmp_path / "debug-finetune"
    root.mkdir()
    (root / "run_id").write_text("x")
    assert not training.begun(sweep) and not root.exists()
    root.mkdir()
    (root / "config.yaml").write_text("name: x\n")
    assert training.begun(sweep) and root.exists()


def test_what_has_ended_is_not_run_again(job: Job, tmp_path: Path) -> None:
    finetune, pretrain = job.pipeline.sweeps["finetune"], job.pipeline.sweeps["pretrain"]
    run = made(tmp_path, "debug-finetune", stage="finetune")
    (run / "progress.jsonl").write_text('{"env_steps": 600}\n')
    before = sorted(path.name for path in run.iterdir())
    assert training.train(job.folder.definition("finetune"), finetune, [], ["a=b"]) == 0
    sweep = tmp_path / "debug-pretrain"
    sweep.mkdir()
    (sweep / "report.html").touch()
    assert training.train(job.folder.definition("pretrain"), pretrain, []) == 0
    assert sorted(path.name for path in run.iterdir()) == before
    with pytest.raises(ConfigError, match=r"sac\.tua"):  # what is changed counts
        training.train(job.folder.definition("finetune"), finetune, ["sac.tua=1"])


def test_a_pipeline_runs_once_at_a_time(job: Job) -> None:
    from booster_ray.store.folder import lock

    with lock(job.folder.path), pytest.raises(ConfigError, match="is being run by another process"):
        run_stage("setup", job)


# -- the last stage --------------------------------------------------------------------------


def finetuned(job: Job, tmp_path: Path, name: str, **how: Any) -> tuple[Any, Path]:
    """A version of a finetuned policy, and its files."""
    version = register(job, made(tmp_path, name, stage="finetune", **how), "finetune")
    config = job.pipeline.config("finetune")
    return version, training.files_of(config, open_registry(config), version, "test")


def promoted(job: Job, version: Any, files: Path) -> tuple[bool | None, list[str]]:
    config, said = job.pipeline.config("finetune"), []
    result = submission.promote(config, open_registry(config), version, files, said.append)
    return result, said


def test_only_gate_3_makes_a_champion(job: Job, tmp_path: Path) -> None:
    assert promoted(job, *finetuned(job, tmp_path, "a"))[0] is None
    assert promoted(job, *finetuned(job, tmp_path, "b", gate_3=False, seed=2))[0] is False
    result, said = promoted(job, *finetuned(job, tmp_path, "c", gate_3=True, seed=3))
    assert result is True and said == ["champion is debug version 3"]
    worse = {**SCORES, "score": 1.0}
    result, said = promoted(job, *finetuned(job, tmp_path, "d", gate_3=True, seed=4, scores=worse))
    assert result is True and said == ["champion stays debug version 3: its score is 1.5"]


def test_without_a_key_nothing_is_submitted(job: Job, tmp_path: Path) -> None:
    version, _ = finetuned(job, tmp_path, "a")
    for gate_3 in (None, True):
        said: list[str] = []
        assert submission.submit(job.folder, version, tmp_path / "p", gate_3, said.append) is None
        assert "python -m booster_ray.submit" in said[0]


def test_a_submission_is_made_once(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, _ = finetuned(job, tmp_path, "a")
    monkeypatch.setenv("SAI_API_KEY", "key")
    taken: list[Path] = []

    def hand_over(directory: Path, name: str) -> str:
        taken.append(directory)
        if len(taken) == 1:
            raise ConfigError("submission", "refused")
        if len(taken) == 2:
            raise KeyboardInterrupt
        return f"id of {name}"

    # The competition's server: its client cannot be made to answer here.
    monkeypatch.setattr(submission, "hand_over", hand_over)
    package = tmp_path / "p"
    with pytest.raises(ConfigError, match="refused"):
        submission.submit(job.folder, version, package, True, print)
    with pytest.raises(KeyboardInterrupt):  # killed before the answer
        submission.submit(job.folder, version, package, True, print)
    with pytest.raises(ConfigError, match="version 1 may have been submitted already"):
        submission.submit(job.folder, version, package, True, print)
    (job.folder.path / submission.INTENT).unlink()
    assert submission.submit(job.folder, version, package, True, print) == "id of debug-v1"
    assert submission.submit(job.folder, version, package, True, print) == "id of debug-v1"
    assert len(taken) == 3


# -- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["convret"], "STAGE: is 'convret', expected all, setup, .*; did you mean 'convert'"),
        (["setup", "nothing"], "nothing: no such file"),
        (["all", "debug", "sac.tua=1"], "sac.tua: unknown key"),
        (["pretrain", "--resume", "x", "debug"], "--resume: takes no pipeline"),
        (["pretrain", "--resume", "nobody"], "no pipeline 'nobody' in results"),
        (["setup", "debug", "storage=/proc/x"], "storage: cannot write"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        main(arguments)


def test_the_command_answers_at_once_without_jax() -> None:
    code = (
        "import sys; from booster_ray.deploy.pipeline.command import _parser, read; _parser(); "
        "read('debug'); print({'jax', 'torch', 'ray', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_records_tell_what_was_made(job: Job, tmp_path: Path) -> None:
    run = made(tmp_path, "first")
    version = register(job, run, "pretrain")
    source = best_checkpoint(run)
    assert source is not None and version.tags["policy"] == digest(source)
    job.folder.finish("pretrain", {"version": version.number})
    assert run_stage("pretrain", job) == 0  # nothing is trained
    kept = json.loads((job.folder.path / "pretrain.json").read_text())
    assert kept == {"stage": "pretrain", "version": 1}
