"""Paths of any characters as URLs of databases."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from booster_ray.config import Sweep, load
from booster_ray.config.paths import settled
from booster_ray.store.database import sqlite_path, sqlite_url
from booster_ray.track.registry_mlflow import artifact_root, mlflow_client
from booster_ray.track.where import mlflow_uri
from booster_ray.tune.ledger import Ledger
from booster_ray.tune.study import SweepStudy, study_url

ODD = ["a?b", "a#b", "a%41", "a b", "{x}", ":memory:", "größe", "a@b:c&d=e+f", "file:x?mode=memory"]


@pytest.mark.parametrize("name", ODD)
def test_a_url_means_the_path_that_it_was_made_of(name: str) -> None:
    path = Path("/tmp") / name / "study.db"
    url = sqlite_url(path)
    assert make_url(url).database == str(path) and not make_url(url).query
    assert sqlite_path(url) == path
    # What trackers print can be typed in a config.
    tree = {"tracking": {"mlflow": {"uri": url}}}
    assert settled(tree) == (tree, [])


def test_a_plain_path_stands_in_its_url_as_it_is() -> None:
    assert sqlite_url(Path("/a/b_1-2.d/study.db")) == "sqlite:////a/b_1-2.d/study.db"
    assert sqlite_path("sqlite:///x.db?timeout=3") == Path("x.db")


def stored(storage: Path, name: str = "s") -> Sweep:
    return load("debug", [f"storage={storage}", f"name={name}"])


def test_two_storages_that_differ_in_odd_characters_have_two_studies(tmp_path: Path) -> None:
    numbers = []
    for name in ("a?b", "a?c", "a", "a%41", "aA", "a b{x}"):
        root = tmp_path / name / "s"
        root.mkdir(parents=True)
        study = SweepStudy(stored(tmp_path / name), root, Ledger(root))
        study.ask()
        numbers.append(len(study.trials()))
        assert len(sqlite3.connect(root / "study.db").execute("select * from trials").fetchall())
        study.flush()
        assert sorted(p.name for p in root.iterdir()) == ["study.db", "trials"]
    assert numbers == [1] * 6
    assert len(list(tmp_path.iterdir())) == 6
    assert study_url(stored(tmp_path).base(), tmp_path / "s") == f"sqlite:///{tmp_path}/s/study.db"


def test_mlflow_keeps_runs_and_artifacts_in_odd_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "a?b %41#ü"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = mlflow_uri(stored(storage).base())
    monkeypatch.chdir(tmp_path)  # nothing is left where the command was typed
    client = mlflow_client(uri, uri)
    experiment = client.create_experiment("x", artifact_location=artifact_root(uri))
    run = client.create_run(experiment).info.run_id
    (tmp_path / "file.txt").write_text("kept")
    client.log_artifact(run, str(tmp_path / "file.txt"))
    assert [f.path for f in client.list_artifacts(run)] == ["file.txt"]
    assert (storage / "mlflow.db").is_file()
    kept = storage / "mlartifacts" / run / "artifacts" / "file.txt"
    assert kept.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == [storage.name, "file.txt"]
