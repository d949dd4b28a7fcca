"""What is kept of a run that will not train on, and that a kill on the way costs nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store.ring import Ring

from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.store.checkpoint.history import load_newest
from booster_ray.store.checkpoint.retention import WITHOUT_REPLAY, retire
from booster_ray.store.checkpoint.store import MANIFEST
from booster_ray.store.mirror import Mirror
from booster_ray.store.remote import RemoteFolder
from booster_ray.store.writer import Writer

LEARNER = {"learner": {"w": np.arange(6.0)}}


def train(directory: Path, mirror: Mirror | None = None) -> None:
    """Three full checkpoints, of which two are kept, and the best."""
    writer, ring = Writer(directory, 2, mirror), Ring()
    for n in (4, 7, 12):
        ring.added = n
        tree: dict[str, Any] = {**LEARNER, "replay": ring.tree()}
        writer.save(f"step_{n:012d}", lambda tree=tree: tree, {"env_steps": n})
        writer.finish()
    writer.save("best_000000000007", lambda: LEARNER, {"env_steps": 7})
    writer.finish()
    writer.close()


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))


def whole(directory: Path) -> None:
    found = load_newest(directory)
    assert found is not None
    tree, metadata, path = found
    np.testing.assert_array_equal(tree["learner"]["w"], LEARNER["learner"]["w"])
    assert path.name == "step_000000000012" and metadata["env_steps"] == 12
    assert "best_000000000007" in names(directory)


def test_the_best_and_the_newest_stay_without_replay(tmp_path: Path) -> None:
    train(tmp_path)
    assert names(tmp_path / "segments")
    for _ in range(2):
        retire(tmp_path)
        assert names(tmp_path) == ["best_000000000007", "segments", "step_000000000012"]
        assert names(tmp_path / "segments") == []
        whole(tmp_path)
    tree, metadata = checkpoint.load(tmp_path / "step_000000000012")
    assert metadata[WITHOUT_REPLAY] and tree["replay"] == {"added": 12}


@pytest.mark.parametrize("call", ["replace", "rename", "unlink"])
@pytest.mark.parametrize("after", range(3))
def test_a_kill_on_the_way_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    class Killed(BaseException):
        pass

    train(tmp_path)
    real, left = getattr(os, call), [after]

    def kill(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, kill)
        try:
            retire(tmp_path)
        except Killed:
            whole(tmp_path)
    retire(tmp_path)
    whole(tmp_path)
    assert names(tmp_path / "segments") == []


def test_a_damaged_one_is_left_alone(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "step_000000000012" / MANIFEST).write_text("{}")
    before = names(tmp_path / "segments")
    with pytest.raises(CheckpointError):
        retire(tmp_path)
    assert names(tmp_path / "segments") == before and len(names(tmp_path)) == 4


def test_a_run_without_checkpoints_has_nothing_to_drop(tmp_path: Path) -> None:
    retire(tmp_path)
    assert names(tmp_path) == []


def test_the_copy_elsewhere_follows(tmp_path: Path) -> None:
    url = f"memory://retention/{tmp_path.name}"
    mirror = Mirror(RemoteFolder(url))
    train(tmp_path / "one", mirror)
    assert RemoteFolder(url).names("segments")
    retire(tmp_path / "one")
    mirror.push(tmp_path / "one")
    assert not RemoteFolder(url).names("segments")
    Mirror(RemoteFolder(url)).pull(tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    whole(tmp_path / "two")
