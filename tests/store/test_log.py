"""Logs: a checkpoint writes what is new, and shares the rest with the one before."""

import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from store.ring import ROOM, Ring, expected

from booster_ray.store.checkpoint import CheckpointError, clone, load, load_newest, log, prune, save
from booster_ray.store.checkpoint.log import SEGMENTS
from booster_ray.store.checkpoint.store import segments, stage, write
from booster_ray.store.mirror import Mirror
from booster_ray.store.remote import RemoteFolder


def written(directory: Path, steps: list[int]) -> None:
    """Checkpoints ``step_N`` of a ring after N rows, each sharing what the one before wrote."""
    known: dict[str, list[log.Segment]] = {}
    for step in steps:
        write(directory / f"step_{step}", stage(Ring(step).tree(), {}, known))
        known = segments(directory / f"step_{step}")


def files(directory: Path) -> set[str]:
    return {file.name for file in (directory / SEGMENTS).glob("*")}


def ranges(path: Path) -> list[tuple[int, int]]:
    return [(s["start"], s["stop"]) for s in segments(path)["log"]]


def test_only_new_rows_are_written_and_all_come_back(tmp_path: Path) -> None:
    written(tmp_path, [0])
    assert load(tmp_path / "step_0")[0]["log"].shape == (0, 2)
    written(tmp_path, [4, 7, 12, 13, 30])
    assert ranges(tmp_path / "step_7") == [(0, 4), (4, 7)]
    assert ranges(tmp_path / "step_12") == [(0, 4), (4, 7), (7, 12)]
    assert ranges(tmp_path / "step_13") == [(0, 4), (4, 7), (7, 12), (12, 13)]
    assert ranges(tmp_path / "step_30") == [(20, 30)]  # all that was saved is overwritten
    assert len(files(tmp_path)) == 5
    for step in (4, 7, 12, 13, 30):
        rows = load(tmp_path / f"step_{step}")[0]["log"]
        np.testing.assert_array_equal(rows, expected(max(0, step - ROOM), step))


def test_a_log_is_copied_when_it_is_staged(tmp_path: Path) -> None:
    ring = Ring(8)
    staged = stage(ring.tree())
    ring.added = 80
    write(tmp_path / "step_8", staged)
    np.testing.assert_array_equal(load(tmp_path / "step_8")[0]["log"], expected(0, 8))
    with pytest.raises(ValueError, match="log ends at row 5, but 8 were saved of it"):
        stage(Ring(5).tree(), {}, segments(tmp_path / "step_8"))


def test_long_logs_are_cut_into_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SEGMENT_BYTES", 3 * 16)
    written(tmp_path, [8, 10])
    assert ranges(tmp_path / "step_10") == [(0, 3), (3, 6), (6, 8), (8, 10)]
    np.testing.assert_array_equal(load(tmp_path / "step_10")[0]["log"], expected(0, 10))


def test_a_log_can_be_loaded_alone_or_left_out(tmp_path: Path) -> None:
    written(tmp_path, [5])
    for file in (tmp_path / SEGMENTS).iterdir():
        file.write_bytes(b"rubbish")
    assert load(tmp_path / "step_5", keys=["added"])[0] == {"added": 5}
    with pytest.raises(CheckpointError):
        load(tmp_path / "step_5", keys=["log"])


def test_pruning_removes_segments_that_no_checkpoint_lists(tmp_path: Path) -> None:
    written(tmp_path, [4, 7, 12, 16])
    save(tmp_path / "best_4", {"w": np.ones(2)})
    assert len(files(tmp_path)) == 4
    prune(tmp_path, keep=2)
    assert len(files(tmp_path)) == 4  # step_12 holds rows 2 to 12
    prune(tmp_path, keep=1)
    assert len(files(tmp_path)) == 3  # rows 6 to 16: the first segment is done with
    np.testing.assert_array_equal(load(tmp_path / "step_16")[0]["log"], expected(6, 16))
    # What a killed process left half written goes too.
    (tmp_path / SEGMENTS / ".segment.tmp-1").touch()
    prune(tmp_path, keep=1)
    assert len(files(tmp_path)) == 3


def test_pruning_keeps_segments_while_a_manifest_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, [4, 7])
    before, read = files(tmp_path), Path.read_text

    def outage(self: Path, *args: str, **options: str) -> str:
        if self.parent.name == "step_7":
            raise OSError(5, "Input/output error")
        return read(self, *args, **options)

    monkeypatch.setattr(Path, "read_text", outage)
    prune(tmp_path, keep=2)
    assert files(tmp_path) == before


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_segment_is_named(tmp_path: Path, harm: str) -> None:
    written(tmp_path, [4, 7])
    newest = segments(tmp_path / "step_7")["log"][-1]["file"]
    file = tmp_path / SEGMENTS / newest
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(data if harm == "flip" else data[:-1])
    with pytest.warns(UserWarning, match=str(file)):
        found = load_newest(tmp_path)
    assert found is not None
    assert found[2].name == "step_4"


def test_a_segment_that_all_need_is_named_when_there_is_nothing_to_fall_back_to(
    tmp_path: Path,
) -> None:
    written(tmp_path, [4, 7])
    file = tmp_path / SEGMENTS / segments(tmp_path / "step_4")["log"][0]["file"]
    file.write_bytes(b"")
    with (
        pytest.warns(UserWarning),
        pytest.raises(CheckpointError, match=f"all 2 checkpoints are damaged; .*{file}"),
    ):
        load_newest(tmp_path)


def test_the_same_rows_written_again_mend_a_damaged_segment(tmp_path: Path) -> None:
    """As when a run goes back to the checkpoint before and comes by again."""
    written(tmp_path, [4, 7])
    file = tmp_path / SEGMENTS / segments(tmp_path / "step_7")["log"][1]["file"]
    file.write_bytes(b"")
    known = segments(tmp_path / "step_4")
    write(tmp_path / "step_8", stage(Ring(7).tree(), {}, known))
    np.testing.assert_array_equal(load(tmp_path / "step_8")[0]["log"], expected(0, 7))
    load(tmp_path / "step_7")


def test_a_lost_segment_is_noticed_when_the_next_checkpoint_would_list_it(tmp_path: Path) -> None:
    written(tmp_path, [4])
    known = segments(tmp_path / "step_4")
    (tmp_path / SEGMENTS / known["log"][0]["file"]).unlink()
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "step_7", stage(Ring(7).tree(), {}, known))
    assert not (tmp_path / "step_7").exists()


def forge(checkpoint: Path, edit: dict[str, object]) -> None:
    """Change what a manifest says of its first segment, as one who knows the format can."""
    from booster_ray.store.checkpoint.store import digest

    file = checkpoint / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["leaves"]["log"]["segments"][0].update(edit)
    body = {"leaves": manifest["leaves"], "metadata": manifest["metadata"]}
    file.write_text(json.dumps({**manifest, "sha256": digest(body)}))


def test_a_forged_name_leads_nowhere(tmp_path: Path) -> None:
    """Neither a copy beside the checkpoint nor one from remote storage follows it."""
    written(tmp_path / "one", [4])
    (tmp_path / "prey").write_text("not a segment")
    forge(tmp_path / "one" / "step_4", {"file": "../../prey"})
    with pytest.raises(CheckpointError, match=r"not a segment's file name: '\.\./\.\./prey'"):
        clone(tmp_path / "one" / "step_4", tmp_path / "two" / "deep" / "step_4")
    remote = RemoteFolder(f"memory://{tmp_path.name}")
    for name in ("manifest.json", "arrays.bin"):
        remote.put(tmp_path / "one" / "step_4" / name, f"step_4/{name}")
    remote.put(tmp_path / "prey", "prey")
    Mirror(remote).pull(tmp_path / "three" / "run")
    with pytest.raises(CheckpointError, match="not a segment's file name"):
        load_newest(tmp_path / "three" / "run")
    assert [file.name for file in tmp_path.rglob("prey")] == ["prey"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"file": "../step_4/arrays.bin"}, "not a segment's file name"),
        ({"start": 1}, "row 0 is in none of its segments"),
        ({"stop": 5}, "row 0 is in none of its segments"),
    ],
)
def test_a_forged_log_is_refused(tmp_path: Path, edit: dict[str, object], message: str) -> None:
    written(tmp_path, [4])
    forge(tmp_path / "step_4", edit)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "step_4")


def test_a_clone_stands_on_its_own(tmp_path: Path) -> None:
    written(tmp_path / "one", [4, 7])
    clone(tmp_path / "one" / "step_7", tmp_path / "two" / "step_7")
    with pytest.raises(FileExistsError):
        clone(tmp_path / "one" / "step_7", tmp_path / "two" / "step_7")
    prune_all = tmp_path / "one"
    for file in sorted(prune_all.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    tree, _ = load(tmp_path / "two" / "step_7")
    np.testing.assert_array_equal(tree["log"], expected(0, 7))


def test_to_another_process_go_the_rows() -> None:
    ring = Ring(6)
    there = pickle.loads(pickle.dumps(ring.tree()["log"]))
    ring.added = 100
    assert (there.start, there.stop) == (0, 6)
    np.testing.assert_array_equal(np.asarray(there), expected(0, 6))
    np.testing.assert_array_equal(there.read(2, 5), expected(2, 5))


def test_a_log_stays_on_disk_until_it_is_read(tmp_path: Path) -> None:
    """One segment at a time is held, though every one was checked; what has gone is named."""
    rows = np.random.default_rng(0).random((3 * 2**16, 256), np.float32)  # 201 MB, six segments
    save(tmp_path / "step_1", {"rows": log.Log.of(rows)})
    tracemalloc.start()
    try:
        (found, *_) = load_newest(tmp_path, logs_on_disk=True)  # type: ignore[misc]
        copy = np.empty_like(rows)
        for at, piece in found["rows"].pieces():
            copy[at : at + len(piece)] = piece
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(copy, rows)
    assert found["rows"].shape == rows.shape and peak < 1.6 * rows.nbytes  # the copy, two segments
    part = found["rows"].read(2**16 - 3, 2**16 + 5)
    np.testing.assert_array_equal(part, rows[2**16 - 3 : 2**16 + 5])
    for file in (tmp_path / "segments").iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match="missing, but the manifest lists it"):
        found["rows"].read(0, len(rows))
