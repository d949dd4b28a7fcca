"""The asset bundle: Databricks' own classes take it, and it says what we promise."""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from booster_ray.deploy.pipeline.catalog import LAYOUT
from booster_ray.deploy.pipeline.definition import STAGES, read

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "databricks"


def tree(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return found


@pytest.fixture
def job() -> dict[str, Any]:
    found: dict[str, Any] = tree("resources/pipeline.yml")["resources"]["jobs"]["pipeline"]
    return found


def variables() -> dict[str, str]:
    given = tree("databricks.yml")["variables"]
    told = {f"var.{name}": str(one["default"]) for name, one in given.items()}
    return told | {"workspace.file_path": "/files"}


def filled(text: str, job: dict[str, Any]) -> str:
    """A parameter as a task gets it."""
    for one in job["parameters"]:
        text = text.replace("{{job.parameters." + one["name"] + "}}", one["default"])
    for name, value in variables().items():
        text = text.replace("${" + name + "}", value)
    assert not {"${", "{{"} & {text[i : i + 2] for i in range(len(text))}
    return text


def test_databricks_takes_the_job(job: dict[str, Any]) -> None:
    bundles = pytest.importorskip("databricks.bundles.jobs")
    assert bundles.Job.from_dict(job).as_dict() == job
    with pytest.raises(ValueError, match="max_retrys"):
        bundles.Job.from_dict({**job, "tasks": [{**job["tasks"][0], "max_retrys": 2}]})


def test_the_sdk_knows_every_setting_of_job_and_pools(job: dict[str, Any]) -> None:
    jobs = pytest.importorskip("databricks.sdk.service.jobs")
    compute = pytest.importorskip("databricks.sdk.service.compute")
    # What it does not know it leaves out.
    assert jobs.JobSettings.from_dict(job).as_dict() == job
    for pool in tree("resources/pools.yml")["resources"]["instance_pools"].values():
        told = compute.GetInstancePool.from_dict(pool).as_dict()
        assert told == pool
        assert (
            "min_idle" not in compute.GetInstancePool.from_dict({**pool, "min_idle": 1}).as_dict()
        )


def test_five_tasks_one_after_the_other_are_tried_again(job: dict[str, Any]) -> None:
    tasks = job["tasks"]
    assert [task["task_key"] for task in tasks] == list(STAGES)
    assert [task["job_cluster_key"] for task in tasks] == ["cpu", "gpu", "cpu", "gpu", "cpu"]
    assert all(task["max_retries"] == 2 for task in tasks)
    before = [[one["task_key"] for one in task.get("depends_on", [])] for task in tasks]
    assert before == [[], *([stage] for stage in STAGES[:-1])]
    keys = {one["job_cluster_key"] for one in job["job_clusters"]}
    assert keys == {task["job_cluster_key"] for task in tasks}


def test_workers_are_preemptible_l4s_and_the_driver_is_not(job: dict[str, Any]) -> None:
    pools = tree("resources/pools.yml")["resources"]["instance_pools"]
    assert pools["l4"]["gcp_attributes"]["gcp_availability"] == "PREEMPTIBLE_GCP"
    assert pools["l4"]["node_type_id"] == "g2-standard-12"
    assert pools["driver"]["gcp_attributes"]["gcp_availability"] == "ON_DEMAND_GCP"
    gpu = next(c["new_cluster"] for c in job["job_clusters"] if c["job_cluster_key"] == "gpu")
    assert gpu["instance_pool_id"] == "${resources.instance_pools.l4.id}"
    assert gpu["driver_instance_pool_id"] == "${resources.instance_pools.driver.id}"


def test_clusters_are_dedicated_and_of_the_long_supported_runtime(job: dict[str, Any]) -> None:
    for one in (cluster["new_cluster"] for cluster in job["job_clusters"]):
        assert one["spark_version"].startswith("16.4.x-") and "-ml-" in one["spark_version"]
        assert one["data_security_mode"] == "SINGLE_USER"
        environment = one["spark_env_vars"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["MLFLOW_REGISTRY_URI"] == "databricks-uc"
        scope = tree("resources/secrets.yml")["resources"]["secret_scopes"]["booster_soccer"]
        for name in ("RAY_AUTH_TOKEN", "WANDB_API_KEY", "SAI_API_KEY", "DATABRICKS_TOKEN"):
            secret = f"{scope['name']}/{name.lower()}"
            assert environment[name] == "{{secrets/" + secret + "}}"


@pytest.mark.parametrize("stage", STAGES)
def test_each_task_calls_its_stage_with_a_pipeline_that_loads(
    stage: str, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    task = next(task for task in job["tasks"] if task["task_key"] == stage)
    folder, *rest = (filled(text, job) for text in task["spark_python_task"]["parameters"])
    assert folder == "/files"
    options = [one for one in rest if one.startswith("--")]
    assert bool(options) == (task["job_cluster_key"] == "gpu")
    called, name, *overrides = rest[len(options) :]
    assert called == stage
    pipeline = read(name, overrides)
    config = pipeline.config(stage)
    _, volumes, catalog, schema, volume = config.storage.split("/")
    assert (volumes, catalog) == ("Volumes", "booster_soccer") and volume in LAYOUT[schema]
    assert config.models.name == "booster_soccer.rl_models.booster_t1"
    if options:  # the driver's machine trains nothing
        assert config.trainer.workers >= 1 or pipeline.sweeps[stage].space


def test_files_that_the_bundle_names_are_there(job: dict[str, Any]) -> None:
    resources = FOLDER / "resources"
    for task in job["tasks"]:
        assert (resources / task["spark_python_task"]["python_file"]).is_file()
        needed = {"requirements", "whl"}
        assert needed == {key for library in task["libraries"] for key in library}
        path = next(one["requirements"] for one in task["libraries"] if "requirements" in one)
        assert (ROOT / path.removeprefix("${workspace.file_path}/")).is_file()
    bundle = tree("databricks.yml")
    for path in bundle["sync"]["paths"]:
        assert (FOLDER / path).is_dir()
    assert (FOLDER / bundle["artifacts"]["booster_ray"]["path"] / "pyproject.toml").is_file()


def test_requirements_can_be_read() -> None:
    from packaging.requirements import Requirement

    text = (FOLDER / "requirements.txt").read_text(encoding="utf-8")
    named = {Requirement(line).name for line in text.splitlines() if line and line[0] != "#"}
    assert {"jax", "ray"} <= named


def test_a_stage_gets_its_arguments_and_an_absent_key_is_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    main = runpy.run_path(str(FOLDER / "stage.py"))["main"]
    monkeypatch.setenv("SAI_API_KEY", "-")
    code = main(str(ROOT), "convert", "debug", "name=no/name", f"storage={tmp_path}")
    assert code == 2 and not list(tmp_path.iterdir())
    assert "SAI_API_KEY" not in os.environ


def test_a_stage_that_fails_fails_the_task(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "stage.py"), str(ROOT), "nonsense"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2, shlex.join(command) + done.stderr
    assert done.stderr.startswith("error: command line: STAGE: is 'nonsense'")
