"""Paths mean what they mean where they are typed, and a kept config has them in full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from sqlalchemy.engine import make_url

from booster_ray.config import Config, ConfigError, load
from booster_ray.config.paths import SETTINGS, expanded
from booster_ray.config.section import Section
from booster_ray.store.database import sqlite_url

DEFAULT = Path(__file__).parents[2] / "tune_configs/default.yaml"
NO_PATHS = {
    "name", "world.kind", "world.kwargs", "curriculum.terms", "imitation.demonstrator",
    "tracking.wandb.project", "tracking.wandb.entity", "tracking.mlflow.experiment", "models.name",
    "runtime.xla_flags", "runtime.jax_platforms", "runtime.cuda_visible_devices",
}  # fmt: skip
"""Settings that are free text, and no path."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the command is typed; HOME and DATA are below it."""
    for name in ("home", "data"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name.upper(), str(tmp_path / name))
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("BLANK", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_to(key: str, text: str) -> Any:
    """What a setting is after it was typed."""
    stage = ["stage=finetune"] if key == "start_from" else []
    found: Any = load(DEFAULT, [*stage, f"{key}={text}"]).base()
    for name in key.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    ("key", "typed", "kept"),
    [
        ("storage", "$DATA/x", "{here}/data/x"),
        ("storage", "${DATA}/x", "{here}/data/x"),
        ("storage", "~/x", "{here}/home/x"),
        ("storage", "results", "results"),
        ("storage", "s3://$USER_BUCKET/runs", "s3://bucket/runs"),
        ("storage", "5$/x", "5$/x"),
        ("start_from", "results/pre", "{here}/results/pre"),
        ("start_from", "../pre", "{here}/../pre"),
        ("start_from", "$DATA/pre", "{here}/data/pre"),
        ("start_from", "~/pre", "{here}/home/pre"),
        ("start_from", "/pre", "/pre"),
        ("start_from", "models:/t1@champion", "models:/t1@champion"),
        ("start_from", "wandb:me/soccer/t1:v3", "wandb:me/soccer/t1:v3"),
        ("runtime.compilation_cache", "cache", "{here}/cache"),
        ("runtime.compilation_cache", "$DATA/cache", "{here}/data/cache"),
        # Every machine of a cluster has a home of its own.
        ("runtime.compilation_cache", "~/cache", "~/cache"),
        ("models.cache", "$DATA/models", "{here}/data/models"),
        ("models.cache", "~/models", "~/models"),
        ("tracking.mlflow.uri", "sqlite:///own.db", "sqlite:///{here}/own.db"),
        ("tracking.mlflow.uri", "sqlite:////abs/own.db", "sqlite:////abs/own.db"),
        ("tracking.mlflow.uri", "sqlite:///$DATA/own.db", "sqlite:///{here}/data/own.db"),
        ("tracking.mlflow.uri", "sqlite:///~/own.db", "sqlite:///{here}/home/own.db"),
        ("tracking.mlflow.uri", "file:mlruns", "file://{here}/mlruns"),
        ("tracking.mlflow.uri", "file:///mlruns", "file:///mlruns"),
        ("tracking.mlflow.uri", "mlruns", "{here}/mlruns"),
        ("tracking.mlflow.uri", "databricks", "databricks"),
        ("tracking.mlflow.uri", "http://server:5000", "http://server:5000"),
        ("models.uri", "sqlite:///registry.db", "sqlite:///{here}/registry.db"),
        ("models.uri", "databricks-uc", "databricks-uc"),
        ("tune.study_url", "sqlite:///study.db", "sqlite:///{here}/study.db"),
        # A server's password must not be kept.
        ("tune.study_url", "postgresql://me:${DATA}@host/x", "postgresql://me:${DATA}@host/x"),
        ("tune.study_url", "postgresql://me:${NOT_SET}@host/x", "postgresql://me:${NOT_SET}@host/x"),
    ],
)  # fmt: skip
def test_a_path_is_kept_in_full(
    key: str, typed: str, kept: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER_BUCKET", "bucket")
    found = set_to(key, typed)
    assert found == kept.replace("{here}", str(here))
    # Read again, elsewhere and without the variables, it is the same.
    monkeypatch.chdir(tmp_path / "data")
    for name in ("DATA", "USER_BUCKET"):
        monkeypatch.delenv(name)
    assert set_to(key, found) == found


@pytest.mark.parametrize(
    ("key", "typed", "says"),
    [
        ("storage", "$NOT_SET/x", "names $NOT_SET, expected a variable that is set"),
        ("storage", "${NOT_SET}", "names $NOT_SET, expected a variable that is set"),
        ("storage", "$BLANK/x", "names $BLANK, which is empty, expected a folder"),
        ("storage", "~nobody-at-all/x", "begins with ~nobody-at-all, expected a user"),
        ("storage", "$ODD/x", "is 'a$b/x' in full, expected a path without $b"),
        ("start_from", "$NOT_SET/x", "names $NOT_SET"),
        ("runtime.compilation_cache", "~/$NOT_SET", "names $NOT_SET"),
        ("models.cache", "$NOT_SET", "names $NOT_SET"),
    ],
)
def test_a_variable_that_is_not_set_is_named(
    key: str, typed: str, says: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD", "a$b")
    with pytest.raises(ConfigError) as caught:
        set_to(key, typed)
    assert str(caught.value).startswith(f"command line: {key}: {says}")


@pytest.mark.parametrize(
    "typed",
    [
        "s3://AKIA:hush@bucket/runs", "s3://bucket/runs?secret_key=hush", "sftp://me:hush@host/runs",
        "gs://bucket/runs?region=eu&token=hush", "abfs://box/runs?SIG=hush&sv=1",
        "s3://AKIA:${HUSHED}@bucket/runs",
    ],
)  # fmt: skip
def test_a_secret_does_not_stand_in_storage(
    typed: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSHED", "hush")
    with pytest.raises(ConfigError) as caught:
        set_to("storage", typed)
    assert str(caught.value).startswith("command line: storage: has a secret in it")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "typed", ["s3://bucket/me@home", "s3://bucket/x?region=eu&scheme=http", "s3://b/a:b"]
)
def test_what_only_looks_like_a_secret_may_stand_there(typed: str, here: Path) -> None:
    assert set_to("storage", typed) == typed


def test_searched_starts_are_kept_in_full(here: Path) -> None:
    search = "start_from={search: choice, values: [a, $DATA/b, 'models:/t1/1']}"
    sweep = load(DEFAULT, ["stage=finetune", search])
    values = [f"{here}/a", f"{here}/data/b", "models:/t1/1"]
    assert sweep.raw["start_from"]["values"] == values
    assert sweep.base().start_from == values[0]
    with pytest.raises(ConfigError, match=r"command line: start_from\.values\.1: names \$NOT_SET"):
        load(DEFAULT, ["stage=finetune", search.replace("DATA", "NOT_SET")])


def test_an_odd_folder_is_no_part_of_a_databases_query(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = here / "a?b%41 c"
    odd.mkdir()
    monkeypatch.chdir(odd)
    url = make_url(set_to("tracking.mlflow.uri", "sqlite:///own.db?timeout=5"))
    assert url.database == str(odd / "own.db") and dict(url.query) == {"timeout": "5"}
    assert set_to("tracking.mlflow.uri", sqlite_url(odd / "x.db")) == sqlite_url(odd / "x.db")


def test_a_file_names_paths_from_where_the_command_is_typed(here: Path) -> None:
    (here / "configs").mkdir()
    file = here / "configs" / "mine.yaml"
    file.write_text("stage: finetune\nstart_from: pre\nstorage: $NOT_SET\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: storage: names $NOT_SET")
    file.write_text("stage: finetune\nstart_from: pre\nstorage: $DATA\n")
    sweep = load(file)
    assert sweep.base().start_from == f"{here}/pre" and sweep.base().storage == f"{here}/data"
    assert yaml.safe_load(sweep.complete().to_yaml())["start_from"] == f"{here}/pre"


def test_an_address_is_read_where_it_is_used(here: Path) -> None:
    place = "tune.study_url"
    assert expanded("postgresql://me:${DATA}@host", place) == f"postgresql://me:{here}/data@host"
    with pytest.raises(ConfigError, match=rf"^{place}: names \$NOT_SET, expected a variable"):
        expanded("postgresql://me:${NOT_SET}@host", place)


def _texts(section: type[Section], key: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _texts(kind, f"{key}{name}.")
            elif kind is str or getattr(kind, "__origin__", None) is str:
                yield key + name


def test_every_text_is_known_to_be_a_path_or_none() -> None:
    """A new setting must say which it is."""
    assert set(_texts(Config)) == SETTINGS | NO_PATHS
