"""What a pipeline is made of, and what its folder keeps of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from booster_ray.config import ConfigError
from booster_ray.deploy.pipeline.definition import Folder, Pipeline, of_stage, read

ROOT = Path(__file__).parents[3]
PIPELINES = sorted(path.name for path in (ROOT / "tune_configs" / "pipelines").iterdir())


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def debug(storage: Path, *overrides: str) -> Pipeline:
    return read("debug", [f"storage={storage}", *overrides])


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_loads(name: str) -> None:
    pipeline = read(name)
    for stage in ("pretrain", "finetune"):
        config = pipeline.config(stage)
        assert (config.name, config.stage, config.start_from) == (f"{name}-{stage}", stage, None)


def test_overrides_mean_both_stages_or_one() -> None:
    given = ["name=mine", "seed=3", "pretrain.sac.tau=0.5", "finetune.training.env_steps=7_000"]
    pipeline = read("debug", given)
    assert pipeline.name == "mine"
    first, second = (pipeline.config(stage) for stage in ("pretrain", "finetune"))
    assert (first.seed, second.seed) == (3, 3)
    assert (first.sac.tau, second.sac.tau) == (0.5, 0.05)
    assert (first.training.env_steps, second.training.env_steps) == (600, 7000)
    assert of_stage("pretrain", ["finetune.tune.trials=1", "trainer.cpus=2"]) == ["trainer.cpus=2"]


def test_one_config_may_serve_both_stages(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 4\nname: mine\n")
    pipeline = read(str(tmp_path / "mine.yaml"))
    assert pipeline.name == "mine" and pipeline.config("finetune").seed == 4
    assert read("demo").name == "demo"  # a preset, for there is no pipeline of that name


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["sac.tua=1"], "command line: sac.tua: unknown key"),
        (["name=a/b"], "name: is 'a/b-pretrain'"),
        (["stage=finetune"], "stage: is given by the pipeline"),
        (["finetune.start_from=x"], "start_from: is given by the pipeline"),
        (["pretrain.models.name=other"], 'models.name: is .debug., .* has .other., expected the'),
        (["finetune.storage=/x"], "storage: is '/x'"),
        (["finetune.control.kp=[1, 1, 1, 1, 1, 1]"], "control: is"),
        (["finetune.sac.actor_hidden=[16]"], r"sac.actor_hidden: is \[16\], .* has \[32\]"),
        (["models.registry=none"], "models.registry: is none, expected mlflow or wandb"),
        (["storage=s3://b/runs"], "tracking.mlflow.uri: is null: the registry would stay"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_starts(
    overrides: list[str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        read("debug", overrides)


def test_a_server_serves_remote_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    assert read("debug", ["storage=s3://b/runs"]).config("pretrain").storage == "s3://b/runs"


# -- its folder ------------------------------------------------------------------------------


def test_another_process_finds_the_same_pipeline(tmp_path: Path) -> None:
    pipeline = debug(tmp_path, "seed=9", "pretrain.tune.trials=5")
    Folder(str(tmp_path), "debug").begin(pipeline)
    found = Folder(str(tmp_path), "debug").reopen()
    for stage in ("pretrain", "finetune"):
        assert found.config(stage) == pipeline.config(stage)
        assert found.sweeps[stage].space == pipeline.sweeps[stage].space


def test_it_is_begun_once_and_as_it_was(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path), "debug")
    folder.begin(debug(tmp_path))
    before = folder.definition("finetune").read_bytes()
    folder.begin(debug(tmp_path))
    with pytest.raises(ConfigError, match=r"ddpg.tau: differs from pipeline 'debug' in .*--resume"):
        folder.begin(debug(tmp_path, "finetune.ddpg.tau=0.5"))
    assert folder.definition("finetune").read_bytes() == before


def test_a_run_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "debug").mkdir()
    (tmp_path / "debug" / "config.yaml").write_text("name: debug\n")
    with pytest.raises(ConfigError, match="a run 'debug' exists"):
        Folder(str(tmp_path), "debug").begin(debug(tmp_path))
    assert [path.name for path in (tmp_path / "debug").iterdir()] == ["config.yaml"]


def test_an_unknown_name_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pipeline 'debgu' in .*, none is"):
        Folder(str(tmp_path), "debgu").reopen()
    Folder(str(tmp_path), "debug").begin(debug(tmp_path))
    with pytest.raises(ConfigError, match=r"expected debug; did you mean 'debug'\?"):
        Folder(str(tmp_path), "debgu").reopen()


def test_a_record_counts_when_it_is_whole(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path), "debug")
    folder.begin(debug(tmp_path))
    assert folder.done("setup") is None
    folder.finish("setup", {"registry": "there"})
    assert folder.done("setup") == {"stage": "setup", "registry": "there"}
    (folder.path / "setup.json").write_text('{"stage": "se')
    assert folder.done("setup") is None


def test_with_remote_storage_another_machine_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    storage = "memory://pipelines"
    monkeypatch.setenv("TMPDIR", str(tmp_path / "first"))
    here = Folder(storage, "debug")
    here.begin(read("debug", [f"storage={storage}", "seed=5"]))
    here.finish("pretrain", {"version": 3})
    (here.path / "convert" / "v3").mkdir(parents=True)
    (here.path / "convert" / "v3" / "gates.json").write_text("{}")
    here.publish_all(here.path / "convert")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "second"))
    there = Folder(storage, "debug")
    assert there.path != here.path and not there.path.exists()
    assert there.reopen().config("pretrain").seed == 5
    assert (there.done("pretrain") or {})["version"] == 3 and there.done("convert") is None
    with pytest.raises(ConfigError, match="differs from pipeline"):
        there.begin(read("debug", [f"storage={storage}", "seed=6"]))
    with pytest.raises(ConfigError, match="expected debug"):
        Folder(storage, "bebug").reopen()


def test_definitions_say_every_setting(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path), "debug")
    folder.begin(debug(tmp_path))
    kept = yaml.safe_load(folder.definition("finetune").read_text(encoding="utf-8"))
    assert kept["ddpg"]["noise"] and kept["sac"]["batch_size"] == 32
