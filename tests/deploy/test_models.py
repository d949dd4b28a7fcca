"""``python -m booster_ray.models``, against a real MLflow registry in SQLite."""

import json
import shutil
from pathlib import Path

import driving
import pytest
from track.made import judge, run_folder, variant

from booster_ray.cli import guarded
from booster_ray.deploy.models import main
from booster_ray.policy.model import pack
from booster_ray.store import gate_results
from booster_ray.store.checkpoint import load as load_checkpoint
from booster_ray.store.files import GATES
from booster_ray.store.model_folder import CHECKPOINT, checksum, verify
from booster_ray.track.registry import Version
from booster_ray.track.registry_mlflow import MlflowRegistry
from booster_ray.track.versions import CHAMPION


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    """A storage folder whose registry holds four versions: gate 3 passed but in the second."""
    root = tmp_path_factory.mktemp("results")
    shutil.copy(empty_mlflow, root)
    run = run_folder(root / "learner")
    best = run / "best_000000000400"
    judge(run, best, gate_3=True)
    packed = root / "packed"
    pack(best, run, packed)
    registry = MlflowRegistry(f"sqlite:///{root}/mlflow.db")
    for number in range(1, 5):
        folder, about = variant(packed, root / f"packed-{number}", env_steps=number)
        if number == 2:
            judge(folder, folder / CHECKPOINT, gate_3=False)
            folder, about = variant(folder, root / "failed", gates={"2": True, "3": False})
        registry.add("t1", folder, about)
    return root


@pytest.fixture(autouse=True)
def _own_settings(storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry of the storage folder, a cache of the test's own, wide tables."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


def versions(storage: Path) -> list[Version]:
    return MlflowRegistry(f"sqlite:///{storage}/mlflow.db").versions("t1")


def champion(storage: Path) -> list[int]:
    return [v.number for v in versions(storage) if CHAMPION in v.aliases]


def command(storage: Path, *args: str) -> int:
    return guarded(lambda: main([*args, "--storage", str(storage)]))


def test_promote_moves_champion_only_past_gate_3_and_rollback_brings_the_one_before(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(storage, "promote", "t1", "1") == 0
    assert champion(storage) == [1]
    assert "champion of t1 is now version 1." in capsys.readouterr().out
    # Failed gate 3, also where someone changed the tag.
    registry = MlflowRegistry(f"sqlite:///{storage}/mlflow.db")
    for tag in ("passed", "failed"):
        assert command(storage, "promote", "t1", "2") == 2
        line = capsys.readouterr().err
        assert "t1 version 2: failed gate 3" in line and line.count("\n") == 1
        assert champion(storage) == [1]
        registry.set_tag(versions(storage)[2], "gate_3", tag)
    assert command(storage, "promote", "models:/t1/3") == 0
    assert "now version 3; it was version 1." in capsys.readouterr().out
    assert command(storage, "promote", "t1", "champion") == 0
    assert "is the champion already" in capsys.readouterr().out
    assert command(storage, "rollback", "t1") == 0
    assert "champion of t1 is version 1 again; it was 3." in capsys.readouterr().out
    assert champion(storage) == [1]
    assert command(storage, "rollback", "t1") == 2
    assert "is the first champion" in capsys.readouterr().err
    assert champion(storage) == [1]


def test_a_run_starts_from_the_champion(storage: Path, tmp_path: Path) -> None:
    """Whoever is champion when it begins, named for good in the run's config."""
    assert command(storage, "promote", "t1", "4") == 0
    # But for its stage as the preset debug, whose rules of the game are compiled already.
    done = driving.inside(
        "debug",
        "stage=finetune",
        "start_from=models:/t1@champion",
        f"tracking.mlflow.uri=sqlite:///{storage}/mlflow.db",
        "tracking.listeners=[]",
        f"models.cache={tmp_path}/cache",
        f"storage={tmp_path}/runs",
        "name=finetune",
        "randomization.level=0",
        "rewards.height=1.0",
        "sac.critic_lr=3e-4",
        "sac.actor_hidden=[16]",
        "sac.critic_hidden=[16]",
        "training.env_steps=60",
        "training.report_every=30",
        "evaluation.episodes_per_task=1",
        "evaluation.every=60",
        "ddpg.critic_hidden=[16]",
        "ddpg.batch_size=8",
        "ddpg.learning_starts=12",
        "ddpg.critic_warmup=12",
        "ddpg.thawing=[{start: 0, layers: null, lr: 1e-3}]",
        module="train",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, metadata = load_checkpoint(tmp_path / "runs/finetune/step_000000000060", keys=["learner"])
    sha256 = versions(storage)[0].tags["sha256"]
    assert metadata["config"]["start_from"] == f"models:/t1/4#{sha256[:32]}"
    verify(tmp_path / "cache" / sha256[:32], sha256)
    assert command(storage, "rollback", "t1") in (0, 2)


def test_list_and_show(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(storage, "list") == 0
    told = capsys.readouterr().out
    assert "t1" in told and f"sqlite:///{storage}/mlflow.db" in told
    assert command(storage, "list", "t1") == 0
    told = capsys.readouterr().out
    assert "latest" in told and "fail 3" in told and "2 3" in told and "learner" in told
    assert command(storage, "show", "t1@latest") == 0
    told = capsys.readouterr().out
    assert "official score" in told and "actor_hidden" in told and "randomization level" in told


def test_fetch_verifies_and_writes_where_it_is_told(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fetched"
    assert command(storage, "fetch", "t1", "2", "--output", str(out)) == 0
    assert checksum(out) == versions(storage)[2].tags["sha256"]
    assert command(storage, "fetch", "t1", "2", "--output", str(out)) == 2
    assert "--output: " in capsys.readouterr().err
    # The folder itself can be gone on with, and evaluated.
    from booster_ray.evaluate.target import find_checkpoint

    assert find_checkpoint(out) == out / CHECKPOINT


def test_gates_that_were_run_later_let_a_version_pass(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = MlflowRegistry(f"sqlite:///{storage}/mlflow.db")
    folder, about = variant(storage / "packed", tmp_path / "ungated", gates={})
    registry.add("late", folder, about)
    assert command(storage, "promote", "late", "1") == 2
    line = capsys.readouterr().err
    assert "was not through gate 3" in line and "--gates DIR" in line
    later = tmp_path / "later"
    later.mkdir()
    judge(later, folder / CHECKPOINT, gate_3=True)
    assert command(storage, "promote", "late", "1", "--gates", str(later)) == 0
    (version,) = registry.versions("late")
    assert CHAMPION in version.aliases and version.tags["gate_3"] == "passed"


def test_a_damaged_version_is_not_promoted(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = MlflowRegistry(f"sqlite:///{storage}/mlflow.db")
    folder, about = variant(storage / "packed", tmp_path / "torn")
    registry.add("torn", folder, about)
    uri = Path(registry._client.get_model_version_download_uri("torn", "1"))
    gates = uri / "booster_ray" / GATES
    gates.write_text(gates.read_text().replace("true", "false"))
    assert command(storage, "promote", "torn", "1") == 2
    line = capsys.readouterr().err
    assert "is damaged: gates.json: checksum differs" in line and line.count("\n") == 1


def test_register_makes_a_version_once(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(storage / "fresh", models={"name": "fresh"})
    assert guarded(lambda: main(["register", str(run)])) == 0
    assert "Registered as fresh version 1 (latest, best" in capsys.readouterr().out
    assert guarded(lambda: main(["register", str(run)])) == 0
    assert "it is version 1 already" in capsys.readouterr().out
    (registered,) = MlflowRegistry(f"sqlite:///{storage}/mlflow.db").versions("fresh")
    assert registered.tags["run"] == "fresh" and registered.tags["stage"] == "pretrain"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["show", "tt1"], "no model 'tt1' in sqlite:.*did you mean 't1'"),
        (["list", "t2"], "no model 't2' in sqlite:"),
        (["show", "t1", "9"], "no version 9 of t1 in"),
        (["promote", "t1", "chief"], "t1 has no alias 'chief' in"),
        (["promote", "t1"], "VERSION: is missing, expected a number or an alias"),
        (["promote", "models:/t1/3", "2"], "VERSION: 2, but models:/t1/3 names a version already"),
        (["rollback", "t9"], "t9: has no champion in"),
        (["fetch", "wandb:t1"], "expected wandb:ENTITY/PROJECT/NAME:ALIAS"),
        (["fetch", "t1:3"], "expected models:/NAME@ALIAS or models:/NAME/VERSION"),
        (["register", "nowhere"], "RUN: nowhere holds no config.yaml"),
    ],
)
def test_bad_input_is_one_line(
    storage: Path, capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    import re

    assert command(storage, *args) == 2
    line = capsys.readouterr().err
    assert re.search(said, line) and line.count("\n") == 1 and line.startswith("error: ")


def test_the_command_answers_help_without_a_registry() -> None:
    code, output = driving.run("--help", module="models")
    assert code == 0
    for name in ("list", "show", "promote", "rollback", "fetch"):
        assert name in output


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("models:/t7@champion", "start_from: no model 't7' in sqlite:"),
        ("models:/t1@chief", "start_from: t1 has no alias 'chief'"),
        ("models:/t1/1#000000000000", "start_from: models:/t1/1#000000000000 has checksum"),
        ("models:/t1", "start_from: models:/t1: expected models:/NAME@ALIAS"),
    ],
)
def test_a_run_is_refused_before_it_begins(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: str, said: str
) -> None:
    from booster_ray.train.command import main as train

    argv = [
        "finetune", f"start_from={start}", f"storage={tmp_path}/runs",
        f"tracking.mlflow.uri=sqlite:///{storage}/mlflow.db",
    ]  # fmt: skip
    assert guarded(lambda: train(argv)) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {said}") and line.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_no_pickle_is_needed_to_fetch(storage: Path, tmp_path: Path) -> None:
    """A version whose MLflow files carry something to run is fetched without running it."""
    registry = MlflowRegistry(f"sqlite:///{storage}/mlflow.db")
    folder, about = variant(storage / "packed", tmp_path / "odd")
    registry.add("odd", folder, about)
    uri = Path(registry._client.get_model_version_download_uri("odd", "1"))
    (uri / "python_model.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    assert command(storage, "fetch", "odd", "--output", str(tmp_path / "out")) == 0
    assert not list((tmp_path / "out").rglob("*.pkl")) and not Path("pwned").exists()
    assert json.loads((tmp_path / "out/model.json").read_text())["about"]["run"] == "learner"
    shutil.rmtree(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["train", "tune"])
def test_the_best_of_a_run_and_of_a_sweep_becomes_a_version_of_its_tracked_run(
    tmp_path: Path, module: str
) -> None:
    results = tmp_path / "results"
    fixed = ["randomization.level=0", "rewards.height=1.0", "sac.critic_lr=1e-3"]
    own = {"train": fixed, "tune": ["tune.trials=1"]}[module]
    code, output = driving.run(
        "debug", *own, f"storage={results}", "tracking.listeners=[mlflow]",
        "tracking.close_seconds=120", "models.registry=mlflow", "models.name=ended", module=module,
    )  # fmt: skip
    assert code == 0, output
    assert "Registered as ended version 1 (latest, best, candidate-pretrain)" in output
    registry = MlflowRegistry(f"sqlite:///{results}/mlflow.db")
    (version,) = registry.versions("ended")
    run = results / "debug" if module == "train" else results / "debug/trials/0000"
    tracked = (run / "mlflow_run").read_text().strip()
    assert version.tags["mlflow_run"] == tracked
    assert registry._client.get_model_version("ended", "1").run_id == tracked
    (best,) = run.glob("best_*")
    assert version.tags["policy"] == gate_results.digest(best)
    assert ("trial" in version.tags) == (module == "tune")
