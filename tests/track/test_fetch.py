"""``start_from`` in a registry: named for good when a run begins, fetched, verified, cached."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from track.fake_wandb import Server
from track.made import judge, run_folder, variant

from booster_ray.config import Config, Sweep, load
from booster_ray.policy.model import pack
from booster_ray.store.model_folder import CHECKPOINT
from booster_ray.track.fetch import cached, fetch, pinned, start_path
from booster_ray.track.registry import (
    Reference,
    RegistryError,
    check_gate,
    find,
    parse,
    previous,
    promote,
    rollback,
)
from booster_ray.track.registry_mlflow import MlflowRegistry
from booster_ray.track.registry_wandb import WandbRegistry
from booster_ray.track.versions import BEST, CHAMPION

NAME = "me/soccer/t1"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = run_folder(tmp_path_factory.mktemp("runs") / "learner")
    judge(run, run / "best_000000000400", gate_3=True)
    folder = tmp_path_factory.mktemp("models") / "packed"
    pack(run / "best_000000000400", run, folder)
    return folder


@pytest.fixture
def wandb_server(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """W&B with three versions of a model, ``best`` the second."""
    import wandb

    server = Server(tmp_path / "wandb")
    monkeypatch.setattr(wandb, "Api", server.api)
    registry = WandbRegistry("me/soccer", run=server.run)
    for steps in range(3):
        folder, about = variant(packed, tmp_path / f"packed-{steps}", env_steps=steps)
        assert registry.add(NAME, folder, about) == steps
    for number in (0, 1):  # it moves
        registry.set_alias(find(registry, Reference("wandb", NAME, number)), BEST)
    return server


def starting(start: str, cache: Path, **mlflow: Any) -> Config:
    return Config.model_validate(
        {
            "stage": "finetune",
            "start_from": start,
            "models": {"cache": str(cache)},
            "tracking": {"mlflow": mlflow},
        }
    )


def sweep(config: Config) -> Sweep:
    return Sweep.from_raw(config.to_dict(), "test.yaml")


# -- W&B, up to its network ------------------------------------------------------------------


def test_wandb_artifacts_are_versions(wandb_server: Server, tmp_path: Path) -> None:
    registry = WandbRegistry("me/soccer")
    assert registry.names() == [NAME]
    assert [v.number for v in registry.versions(NAME)] == [2, 1, 0]
    version = find(registry, parse(f"wandb:{NAME}:best"))
    assert version.number == 1 and version.tags["env_steps"] == "1"
    assert find(registry, parse(f"wandb:{NAME}:latest")).number == 2
    folder = fetch(registry, version, tmp_path / "cache")
    assert (folder / CHECKPOINT / "manifest.json").is_file()
    assert registry.versions("me/soccer/none") == []
    with pytest.raises(RegistryError, match=r"no model 'me/soccer/tt1' in W&B me/soccer.*t1"):
        find(registry, parse("wandb:me/soccer/tt1:best"))
    run = {"entity": "me", "project": "soccer", "name": "learner model"}
    assert wandb_server.runs[0] == run


def test_wandb_has_champions_too(wandb_server: Server, tmp_path: Path) -> None:
    registry = WandbRegistry("me/soccer")
    for number in (0, 2):
        version = find(registry, Reference("wandb", NAME, number))
        check_gate(version, fetch(registry, version, tmp_path / "cache"))
        promote(registry, version)
    assert find(registry, parse(f"wandb:{NAME}:champion")).number == 2
    now, before = previous(registry, NAME)
    rollback(registry, now, before)
    assert [v.number for v in registry.versions(NAME) if CHAMPION in v.aliases] == [0]
    registry.set_alias(before, BEST)
    registry.remove(find(registry, Reference("wandb", NAME, 1)))
    assert [v.number for v in registry.versions(NAME)] == [2, 0]


def test_a_version_in_wandb_names_the_run_that_trained_it(
    wandb_server: Server, packed: Path, tmp_path: Path
) -> None:
    registry = WandbRegistry("me/soccer", run=wandb_server.run)
    folder, about = variant(packed, tmp_path / "of-run", wandb_run="abc123")
    registry.add("me/soccer/other", folder, about)
    assert registry.versions("me/soccer/other")[0].tags["wandb_run"] == "abc123"


def test_a_run_starts_from_wandb(wandb_server: Server, tmp_path: Path) -> None:
    config = starting(f"wandb:{NAME}:best", tmp_path / "cache")
    fixed = pinned(sweep(config)).base()
    sha256 = WandbRegistry("me/soccer").versions(NAME)[1].tags["sha256"]
    assert fixed.start_from == f"wandb:{NAME}:v1#{sha256[:32]}"
    wandb_server.artifacts.clear()  # what is named for good and cached needs no server
    assert start_path(fixed) == tmp_path / "cache" / sha256[:32] / CHECKPOINT
    with pytest.raises(RegistryError, match="start_from: no model"):
        start_path(config)


def test_without_a_key_wandb_is_refused_in_one_line(tmp_path: Path) -> None:
    """The real client, on a server that is not there."""
    code = (
        "from booster_ray.track.registry import parse, find\n"
        "from booster_ray.track.registry_wandb import WandbRegistry\n"
        "find(WandbRegistry('a/b'), parse('wandb:a/b/c:best', 'start_from'), 'start_from')"
    )
    bare = {k: v for k, v in os.environ.items() if k not in ("WANDB_API_KEY", "NETRC")}
    env = {**bare, "HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "RegistryError: W&B a/b: No API key configured" in last


# -- MLflow ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(packed: Path, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> str:
    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{shutil.copy(empty_mlflow, root)}"
    registry = MlflowRegistry(uri)
    for steps in (1, 2):
        folder, about = variant(packed, root / f"packed-{steps}", env_steps=steps)
        registry.add("t1", folder, about)
    return uri


def test_an_alias_is_named_for_good_when_a_run_begins(database: str, tmp_path: Path) -> None:
    registry, cache = MlflowRegistry(database), tmp_path / "cache"
    first, second = registry.versions("t1")[::-1]
    registry.set_alias(first, "mine")
    config = starting("models:/t1@mine", cache, uri=database)
    fixed = pinned(sweep(config)).base()
    assert fixed.start_from == f"models:/t1/1#{first.tags['sha256'][:32]}"
    registry.set_alias(second, "mine")
    assert start_path(fixed) == cache / first.tags["sha256"][:32] / CHECKPOINT
    assert start_path(config) == cache / second.tags["sha256"][:32] / CHECKPOINT
    # Trials on this machine ask no registry, which they may not even reach.
    away = fixed.model_copy(
        update={"tracking": starting("x", cache, uri="sqlite:////none.db").tracking}
    )
    assert start_path(away) == start_path(fixed)


def test_searched_starts_are_named_for_good_too(database: str, tmp_path: Path) -> None:
    config = starting("models:/t1/1", tmp_path / "cache", uri=database)
    values = ["models:/t1/1", "models:/t1@latest", "results/elsewhere"]
    raw = {**config.to_dict(), "start_from": {"search": "choice", "values": values}}
    found = pinned(Sweep.from_raw(raw, "test.yaml")).raw["start_from"]["values"]
    assert [text.partition("#")[0] for text in found] == [
        "models:/t1/1", "models:/t1/2", "results/elsewhere"
    ]  # fmt: skip


def test_starts_of_experiments_are_named_for_good_too(database: str, tmp_path: Path) -> None:
    config = starting("models:/t1/1", tmp_path / "cache", uri=database)
    experiments = {"newest": {"start_from": "models:/t1@latest"}, "same": {"seed": 3}}
    raw = {**config.to_dict(), "experiments": experiments}
    raw["tune"] = {"trials": 2}
    found = pinned(Sweep.from_raw(raw, "test.yaml"))
    starts = [found.resolve(point).start_from or "" for point in found.points]
    assert [text.partition("#")[0] for text in starts] == ["models:/t1/2", "models:/t1/1"]


def test_a_sweep_without_a_model_is_left_alone() -> None:
    plain = load("tune_configs/debug.yaml")
    assert pinned(plain) is plain
    path = sweep(starting("results/learner", Path("cache")))
    assert pinned(path) is path
    assert start_path(path.base()) == Path("results/learner")


def test_a_checksum_that_is_named_must_be_the_registry_s(database: str, tmp_path: Path) -> None:
    config = starting("models:/t1/1#0123456789ab", tmp_path / "cache", uri=database)
    with pytest.raises(RegistryError, match="start_from: models:/t1/1#0123456789ab has checksum"):
        start_path(config)


def test_a_model_of_no_registry_is_one_line(tmp_path: Path) -> None:
    config = starting("models:/t1@best", tmp_path, uri=f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(RegistryError, match=r"start_from: no model 't1' in sqlite.* it has none"):
        start_path(config)


def test_a_cache_that_cannot_be_written_is_named(database: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = starting("models:/t1/1", tmp_path / "file" / "cache", uri=database)
    with pytest.raises(RegistryError, match=r"models.cache: cannot write .*file/cache"):
        start_path(config)
    assert cached(tmp_path / "nowhere", "ab" * 32) is None
