"""What storage can do, and what a file system that cannot is told by."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
from store.unsynced import without_folder_sync

from booster_ray.config import Config, load
from booster_ray.deploy.doctor import storage


def config(folder: Path | str) -> Config:
    return load("debug", [f"storage={folder}"]).base()


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    found = storage.check(config(tmp_path / "new" / "folder"))
    assert [one.verdict for one in found] == ["ok", "ok"]
    assert "write, rename, append, lock" in found[0].text
    assert found[1].check == "clock" and found[1].details["skew_seconds"] < 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc/x", "/dev/null/x"])
def test_what_cannot_be_written_fails(folder: str) -> None:
    (found,) = storage.check(config(folder))
    assert found.verdict == "fail" and f"{folder}: cannot write" in found.text
    assert "storage=" in found.fix


def test_a_file_system_without_append_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(probe: Path) -> None:
        raise OSError(errno.EOPNOTSUPP, "")

    monkeypatch.setattr(storage, "_append", refuse)
    found = storage.check(config(tmp_path))[0]
    assert found.verdict == "fail" and "append fails (Operation not supported)" in found.text


def test_remote_storage_needs_only_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = storage.check(config("memory://runs"))
    assert [one.verdict for one in found] == ["ok", "ok", "ok"]
    assert "whole files" in found[0].text and "working copy" in found[1].text


def test_a_volume_that_is_not_mounted_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = storage.check(config("/Volumes/nowhere/x/runs"))[0]
    assert found.verdict == "fail" and "no volume is mounted" in found.text


@pytest.mark.parametrize(("free", "verdict"), [(10**8, "fail"), (10**9, "warn"), (10**11, "ok")])
def test_a_full_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert storage.disk(config(tmp_path / "not" / "there"))[0].verdict == verdict


@pytest.mark.parametrize(("skew", "verdict"), [(0.5, "ok"), (20, "warn"), (1000, "fail")])
def test_clocks_that_differ(skew: float, verdict: str) -> None:
    assert storage.skewed("there", skew).verdict == verdict


@pytest.mark.parametrize(
    ("error", "verdict", "says"),
    [
        (errno.EINVAL, "warn", "cannot sync folders, which runs go without"),
        (errno.ENOTSUP, "warn", "cannot sync folders"),
        (errno.EIO, "fail", "sync of a folder fails (Input/output error)"),
    ],
)
def test_folders_that_cannot_be_synced_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, verdict: str, says: str
) -> None:
    without_folder_sync(monkeypatch, error)
    found = storage.check(config(tmp_path))[0]
    assert found.verdict == verdict and says in found.text
    assert list(tmp_path.iterdir()) == []
