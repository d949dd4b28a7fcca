import errno
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from booster_ray.store.checkpoint import CheckpointError, load, load_newest, prune, save

# Goes on from the newest checkpoint, as a restarted trial does; every leaf tells its step.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from booster_ray.store.checkpoint import load_newest, prune, save

directory = Path(sys.argv[1])
found = load_newest(directory)
step = found[0]["step"] if found else 0
print("ready", flush=True)
while True:
    step += 1
    tree = {"step": step, "net": {str(i): np.full((40, 40 + i), step) for i in range(12)}}
    save(directory / f"step_{step}", tree, {"step": step})
    prune(directory, keep=2)
"""


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def test_a_writer_killed_at_any_moment_leaves_a_whole_newest_checkpoint(tmp_path: Path) -> None:
    rng = random.Random(0)
    last = 0
    for _ in range(10):
        command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(rng.uniform(0.02, 0.25))
            writer.kill()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing damaged to pass over, either
            found = load_newest(tmp_path)
        if found is None:
            assert last == 0
            continue
        tree, metadata, path = found
        step = tree["step"]
        assert (metadata, path.name) == ({"step": step}, f"step_{step}")
        assert step >= last
        for index in range(12):
            np.testing.assert_array_equal(tree["net"][str(index)], np.full((40, 40 + index), step))
        for entry in tmp_path.glob("step_*"):
            load(entry)  # the older one too, whatever moment of its removal was hit
        last = step
    assert last > 0
    save(tmp_path / f"step_{last + 1}", {})
    assert not any(name.startswith(".") for name in names(tmp_path))


def test_newest_is_the_largest_number_not_the_last_name(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        save(tmp_path / f"step_{step}", {"step": step})
    (tmp_path / "step_note").mkdir()
    (tmp_path / "step_900").touch()
    (tmp_path / ".step_999.tmp-1").mkdir()
    found = load_newest(tmp_path)
    assert found is not None
    assert found[0] == {"step": 100}
    assert found[2] == tmp_path / "step_100"
    found = load_newest(tmp_path, pattern="*")
    assert found is not None
    assert found[2].name == "step_100"


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path) is None
    assert load_newest(tmp_path / "nowhere") is None


def test_a_damaged_newest_falls_back_with_a_warning_that_names_the_file(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path / f"step_{step}", {"w": np.full(3, step)})
    bad = tmp_path / "step_3" / "arrays.bin"
    bad.write_bytes(bad.read_bytes()[:-1])
    (tmp_path / "step_2" / "manifest.json").unlink()
    with pytest.warns(UserWarning) as caught:
        found = load_newest(tmp_path)
    assert [str(w.message).split(": ")[1] for w in caught] == [
        str(bad),
        str(tmp_path / "step_2" / "manifest.json"),
    ]
    assert found is not None
    assert found[2].name == "step_1"
    (tmp_path / "step_1" / "manifest.json").write_text("{}")
    with (
        pytest.warns(UserWarning),
        pytest.raises(CheckpointError, match=r"all 3 checkpoints are damaged; .*step_1/manifest"),
    ):
        load_newest(tmp_path)


def test_prune_keeps_the_newest_and_the_protected(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10, 11):
        save(tmp_path / f"step_{step}", {})
    save(tmp_path / "best", {})
    prune(tmp_path, keep=2, protect=[tmp_path / "x" / ".." / "step_2"])
    assert names(tmp_path) == {"step_11", "step_10", "step_2", "best"}
    with pytest.raises(ValueError, match="keep is 0"):
        prune(tmp_path, keep=0)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "step_1", {"step": 1})

    def failing(path: Path) -> list[str]:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", failing)
        with pytest.raises(OSError, match=os.strerror(number)):
            load_newest(tmp_path)
    assert load_newest(tmp_path) is not None
    assert load_newest(tmp_path / "elsewhere") is None
