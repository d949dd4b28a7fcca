"""The folder of a run on remote storage: begun once, found again by a machine that has nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store import s3_server

from booster_ray.config import ConfigError, load
from booster_ray.store import folder
from booster_ray.store.files import CONFIG
from booster_ray.store.remote import RemoteFolder

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server.serving() as environment:
        yield environment


@pytest.fixture
def url(server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Storage on an S3 server; this machine works in ``tmp_path/here``."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "here"))
    return f"s3://{s3_server.BUCKET}/{tmp_path.name}"


def begun(url: str, name: str) -> Path:
    sweep = load(DEBUG, [f"storage={url}", f"name={name}"])
    root = folder.begin(sweep)
    (root / CONFIG).write_text(sweep.complete().to_yaml())
    folder.publish(sweep.base(), root / CONFIG)
    return root


def test_a_name_that_was_taken_and_never_used_is_free(tmp_path: Path) -> None:
    """Its command was killed before it wrote what marks a run."""
    sweep = load(DEBUG, [f"storage={tmp_path}", "name=first"])
    root = folder.begin(sweep)
    folder.lock(root).close()
    assert folder.begin(sweep) == root
    (root / CONFIG).write_text(sweep.complete().to_yaml())
    with pytest.raises(ConfigError, match="run 'first' exists in"):
        folder.begin(sweep)


@pytest.mark.parametrize("name", ["trials", "0001", "runs", "here"])
def test_a_run_has_one_place_whatever_it_is_called(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also as seen from a machine whose working folders are elsewhere."""
    config = load(DEBUG, [f"storage={url}", f"name='{name}'"]).base()
    root = folder.storage_path(url) / name
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    for where in (root, folder.storage_path(url) / name):
        assert folder.address(config, where / "trials" / "0001") == f"{name}/trials/0001"
        assert folder.address(config, where) == name


def test_another_machine_finds_a_run_by_its_name(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = begun(url, "first")
    assert root.is_relative_to(tmp_path / "here")
    begun(url, "second")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "there"))
    sweep, again = folder.reopen("first", url, CONFIG)
    assert again.is_relative_to(tmp_path / "there")
    assert sweep.base().name == "first"
    with pytest.raises(ConfigError, match=f"no run 'frst' in {url}, expected first or second"):
        folder.reopen("frst", url, CONFIG)
    # The name is taken, though not on this machine.
    with pytest.raises(ConfigError, match=f"run 'second' exists in {url}; go on with --resume"):
        begun(url, "second")


def test_a_sweeps_runs_are_copied_to_their_place_in_it(url: str, tmp_path: Path) -> None:
    config = load(DEBUG, [f"storage={url}", "name=sweep"]).base()
    # On a node whose local folders are called otherwise than the driver's.
    mirror = folder.mirror_of(config, tmp_path / "elsewhere" / "sweep" / "trials" / "0003")
    assert mirror is not None
    assert mirror.folder.url == f"{url}/sweep/trials/0003"
    local = load(DEBUG, [f"storage={tmp_path}"]).base()
    assert folder.mirror_of(local, tmp_path / "sweep") is None


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("s3://no-such-bucket/x", "cannot write: s3://no-such-bucket/x: .*does not exist"),
        ("nonsense://x", "cannot write: nonsense://x: .*nonsense"),
    ],
)
def test_unusable_storage_is_refused_before_anything_starts(
    storage: str, message: str, url: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"storage: {message}") as error:
        begun(storage, "first")
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"cannot read: |no run"):
        folder.reopen("first", storage, CONFIG)
    assert RemoteFolder(url).names() == {}
