"""Small files that are whole whenever they are read, whoever writes them."""

import os
import threading
from pathlib import Path

import pytest

from booster_ray.store.durable import names_in, replace_text


def test_it_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tmp_path / "small.json", []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(file.exists()), fsync(fd)))
    replace_text(file, "whole")
    assert seen == [False] and file.read_text() == "whole"
    assert names_in(tmp_path) == ["small.json"]


def test_many_may_write_one_at_once(tmp_path: Path) -> None:
    file, texts = tmp_path / "small.json", [str(i) * 50_000 for i in range(8)]

    def write(text: str) -> None:
        for _ in range(20):
            replace_text(file, text)
            assert file.read_text() in texts

    failed: list[BaseException] = []
    monitor = threading.excepthook
    threading.excepthook = lambda told: failed.append(told.exc_value or AssertionError())
    try:
        threads = [threading.Thread(target=write, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = monitor
    assert failed == []
    assert names_in(tmp_path) == ["small.json"]


def test_what_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "small.json"
    replace_text(file, "old")

    def full(fd: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        replace_text(file, "new")
    assert file.read_text() == "old" and names_in(tmp_path) == ["small.json"]
