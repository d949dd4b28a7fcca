"""The Unity Catalog set-up, with Databricks' own client against a server of its interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from deploy.pipeline.fake_unity import Unity, serve

from booster_ray.config import ConfigError
from booster_ray.deploy.pipeline import catalog

sdk = pytest.importorskip("databricks.sdk")

STORAGE = "/Volumes/booster_soccer/experiments/checkpoints"
ALL = {
    "catalogs/booster_soccer",
    "schemas/booster_soccer.rl_models",
    "schemas/booster_soccer.experiments",
    "volumes/booster_soccer.experiments.checkpoints",
    "volumes/booster_soccer.experiments.artifacts",
    "volumes/booster_soccer.experiments.logs",
}


@pytest.fixture
def unity() -> Unity:
    return Unity()


@pytest.fixture
def client(unity: Unity) -> Iterator[Any]:
    with serve(unity) as url:
        yield sdk.WorkspaceClient(host=url, token="none", auth_type="pat")


def test_everything_is_made_once(unity: Unity, client: Any) -> None:
    assert len(list(catalog.ensure(STORAGE, client))) == len(ALL)
    assert unity.there == ALL
    unity.asked.clear()
    assert list(catalog.ensure(STORAGE, client)) == []
    assert {method for method, _ in unity.asked} == {"GET"}  # no right to create is needed


def test_what_exists_is_left_alone(unity: Unity, client: Any) -> None:
    unity.there |= {"catalogs/booster_soccer", "schemas/booster_soccer.experiments"}
    told = list(catalog.ensure(f"{STORAGE}/more", client))
    assert unity.there == ALL and len(told) == 4
    assert not any("Catalog" in line for line in told)


def test_another_job_may_be_faster(unity: Unity, client: Any) -> None:
    unity.faster = True
    assert list(catalog.ensure(STORAGE, client)) == [] and unity.there == ALL


def test_a_refusal_is_one_line(unity: Unity, client: Any) -> None:
    unity.forbidden = True
    with pytest.raises(ConfigError, match=r"^Unity Catalog: booster_soccer: no CREATE CATALOG$"):
        list(catalog.ensure(STORAGE, client))


def test_storage_elsewhere_needs_none() -> None:
    assert list(catalog.ensure("s3://bucket/runs")) == []
    assert list(catalog.ensure("results")) == []


@pytest.mark.parametrize("path", ["/Volumes/c", "/Volumes/c/experiments/mine", "/Volumes/c/x/logs"])
def test_another_volume_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="expected /Volumes/CATALOG/experiments/checkpoints"):
        list(catalog.ensure(path))
