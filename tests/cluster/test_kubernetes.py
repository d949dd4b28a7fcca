"""The manifests fit KubeRay's resources and Kubernetes' own, and say what we promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cluster.kuberay import SCHEMAS

FOLDER = Path(__file__).parents[2] / "cluster" / "kubernetes"
VERSION = "1.30"
"""Of Kubernetes, whose schemas are used."""


def manifest(name: str) -> dict[str, Any]:
    (found,) = yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def clusters() -> dict[str, dict[str, Any]]:
    """RayCluster specs: the one that stays, and the job's own."""
    job = manifest("rayjob")["spec"]
    return {"raycluster": manifest("raycluster")["spec"], "rayjob": job["rayClusterSpec"]}


def groups(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield spec["headGroupSpec"]
    yield from spec["workerGroupSpecs"]


def check(spec: dict[str, Any], kind: str) -> None:
    jsonschema.Draft7Validator(SCHEMAS[kind]).validate(spec)


def test_kuberay_takes_them() -> None:
    for name, kind in (("raycluster", "RayCluster"), ("rayjob", "RayJob")):
        found = manifest(name)
        assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", kind)
        check(found["spec"], kind)


@pytest.mark.parametrize("change", [{"backofLimit": 2}, {"backoffLimit": "two"}])
def test_a_slip_would_be_refused(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(manifest("rayjob")["spec"] | change, "RayJob")


def test_kubernetes_takes_the_pods_and_the_volume() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    validator.validate(manifest("storage"), VERSION, strict=True)
    for name, spec in clusters().items():
        for group in groups(spec):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                   "spec": group["template"]["spec"]}  # fmt: skip
            validator.validate(pod, VERSION, strict=True)
            slip = {**pod, "spec": {**pod["spec"], "nodeSelctor": {}}}
            with pytest.raises(validator.ValidationError):
                validator.validate(slip, VERSION, strict=True)


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_workers_may_be_taken_away_and_the_head_may_not(name: str) -> None:
    spec = clusters()[name]
    head, (worker,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    pod, spot = worker["template"]["spec"], "cloud.google.com/gke-spot"
    assert pod["nodeSelector"][spot] == "true"
    assert {"key": spot, "operator": "Equal", "value": "true", "effect": "NoSchedule"} in pod[
        "tolerations"
    ]
    affinity = head["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {"key": spot, "operator": "DoesNotExist"} in terms[0]["matchExpressions"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "head" in json.loads(json.loads(head["rayStartParams"]["resources"]))
    assert worker["minReplicas"] == 0


def test_every_pod_has_the_storage_and_the_token() -> None:
    for spec in clusters().values():
        assert spec["authOptions"] == {"mode": "token"}
        for group in groups(spec):
            pod = group["template"]["spec"]
            claim = {"claimName": manifest("storage")["metadata"]["name"]}
            volume = next(v for v in pod["volumes"] if v["name"] == "storage")
            assert volume["persistentVolumeClaim"] == claim
            mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
            assert mounts == {"storage": "/storage", "shm": "/dev/shm"}


def test_both_files_describe_the_same_cluster() -> None:
    found = clusters()
    assert found["raycluster"] == found["rayjob"]


def test_the_job_is_tried_again_and_its_driver_stays_on_the_head() -> None:
    spec = manifest("rayjob")["spec"]
    assert spec["backoffLimit"] == 2 and spec["shutdownAfterJobFinishes"]
    assert json.loads(spec["entrypointResources"]).keys() == {"head"}
    assert "booster_ray.pipeline pretrain" in spec["entrypoint"]


def test_ray_is_the_version_that_is_locked() -> None:
    constraints = (FOLDER.parents[1] / "constraints.txt").read_text(encoding="utf-8")
    for spec in clusters().values():
        assert f"ray=={spec['rayVersion']}\n" in constraints
