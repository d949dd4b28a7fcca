import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from booster_ray.store.checkpoint import CheckpointError, Tree, load, save, store

DTYPES = [
    *map(np.dtype, ["?", "i1", "u4", "i8", "f2", "<f4", ">f4", "f8", "c8", "S3", "<U2", "M8[s]"]),
    *map(np.dtype, [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4]),
]
TREE: Tree = {
    "actor": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.zeros(3, ml_dtypes.bfloat16)},
    "critic": {"kernel": np.ones((4, 4), np.float32)},
    "step": 7,
    "best": float("-inf"),
}


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any bits, NaN payloads included, of 0 to 3 axes, in any memory layout."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if dtype.kind in "SUM?" or dtype == ml_dtypes.int4:
        array = draw(npst.arrays("u1", shape, elements=st.integers(0, 1))).astype(dtype)
    else:
        raw = draw(npst.arrays(f"u{dtype.itemsize}" if dtype.itemsize < 9 else "u8", shape))
        array = raw.view(dtype)
    if array.ndim and draw(st.booleans()):
        array = draw(st.sampled_from([array.T, array[::2], array[::-1]]))
    return array


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
keys = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=4)
trees = st.dictionaries(
    keys,
    st.recursive(
        arrays() | scalars, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)


def assert_same(left: object, right: object) -> None:
    assert type(left) is type(right)
    if isinstance(left, dict) and isinstance(right, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes()
    else:
        assert repr(left) == repr(right)  # tells -0.0 from 0.0, and finds nan equal to nan


def place(checkpoint: Path, leaf: str) -> tuple[Path, int, int]:
    """The file of a leaf, and its first byte and the one after its last."""
    entry = json.loads((checkpoint / "manifest.json").read_text())["leaves"][leaf]
    return checkpoint / entry["file"], entry["offset"], entry["offset"] + entry["bytes"]


def forge(checkpoint: Path, edit: dict[str, object]) -> None:
    """Edits the entry of actor/kernel, or with a version the head, checksum mended."""
    file = checkpoint / "manifest.json"
    manifest = json.loads(file.read_text())
    if "format_version" in edit:
        manifest.update(edit)
    else:
        manifest["leaves"]["actor/kernel"].update(edit)
    body = {"leaves": manifest["leaves"], "metadata": manifest["metadata"]}
    manifest["sha256"] = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    file.write_text(json.dumps(manifest))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "step_7"
    save(path, TREE, {"score": 1.5})
    return path


@given(tree=trees)
@settings(max_examples=150, deadline=None)
def test_what_is_saved_comes_back_bit_for_bit(
    tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("store") / "step_1"
    save(path, tree)
    assert_same(load(path)[0], tree)


def test_metadata_comes_back(tmp_path: Path) -> None:
    metadata = {"score": float("nan"), "tasks": ["goalie"], "run": {"id": "x", "parent": None}}
    save(tmp_path / "a", {}, metadata)
    tree, loaded = load(tmp_path / "a")
    assert tree == {}
    assert repr(loaded) == repr(metadata)


def test_jax_arrays_come_back_as_numpy(tmp_path: Path) -> None:
    jax = pytest.importorskip("jax")
    tree = {"key": jax.random.PRNGKey(3), "w": jax.numpy.ones((2, 3), jax.numpy.bfloat16)}
    save(tmp_path / "a", tree)
    assert_same(load(tmp_path / "a")[0], {name: np.asarray(x) for name, x in tree.items()})
    with pytest.raises(TypeError, match="'key'"):
        save(tmp_path / "b", {"key": jax.random.key(3)})


def test_the_module_needs_no_jax() -> None:
    code = (
        "import sys, booster_ray.store.checkpoint; "
        "sys.exit(bool({'jax', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("tree", "error"),
    [
        ({"a/b": 1}, ValueError),
        ({"a": {2: 1}}, ValueError),
        ({"a": {"b": [1, 2]}}, TypeError),
        ({"a": object()}, TypeError),
        ({"a": np.array([object()])}, TypeError),
        ({"a": np.zeros(2, "i4,f4")}, TypeError),
    ],
)
def test_a_tree_that_cannot_be_stored_is_refused_before_writing(
    tmp_path: Path, tree: Tree, error: type[Exception]
) -> None:
    with pytest.raises(error, match="a"):
        save(tmp_path / "x" / "step_1", tree)
    assert not (tmp_path / "x").exists()


def test_metadata_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(tmp_path / "step_1", TREE, {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["checkpoint", "empty directory", "file", "dangling link"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "step_1"
    if kind == "checkpoint":
        save(path, {"old": 1})
    elif kind == "empty directory":
        path.mkdir()
    elif kind == "file":
        path.touch()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="step_1"):
        save(path, TREE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_1"]
    assert kind != "checkpoint" or load(path)[0] == {"old": 1}


def test_a_checkpoint_that_appears_during_the_save_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step_1"
    save(path, {"old": 1})
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(FileExistsError):
        save(path, TREE)
    assert load(path)[0] == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_1"]


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_array", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path / "step_1", TREE)
    assert list(tmp_path.iterdir()) == []


def test_stale_temp_directories_go_when_their_process_is_dead(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid(), os.getppid()):
        (tmp_path / f".step_0.tmp-{pid}" / "sub").mkdir(parents=True)
    save(tmp_path / "step_1", TREE)
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"step_1", f".step_0.tmp-{os.getppid()}"}


def test_a_subtree_is_loaded_without_reading_the_rest(checkpoint: Path) -> None:
    file, first, end = place(checkpoint, "critic/kernel")
    data = file.read_bytes()
    file.write_bytes(data[:first] + b"x" * (end - first) + data[end:])
    with pytest.raises(CheckpointError, match="checksum"):
        load(checkpoint)
    assert_same(load(checkpoint, keys=["actor"])[0], {"actor": TREE["actor"]})
    tree, metadata = load(checkpoint, keys=["actor/bias", "step"])
    assert_same(tree, {"actor": {"bias": TREE["actor"]["bias"]}, "step": 7})
    assert metadata == {"score": 1.5}
    with pytest.raises(CheckpointError, match=r"nothing under 'act' .*actor, critic, step, best"):
        load(checkpoint, keys=["act"])


@pytest.mark.parametrize("where", ["head", "middle", "tail"])
def test_one_flipped_bit_in_a_leaf_is_found(checkpoint: Path, where: str) -> None:
    file, first, end = place(checkpoint, "actor/kernel")
    data = bytearray(file.read_bytes())
    data[{"head": first, "middle": (first + end) // 2, "tail": end - 1}[where]] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"^{file}: checksum") as error:
        load(checkpoint)
    assert "\n" not in str(error.value)


def test_any_flipped_byte_in_the_manifest_is_found_or_harmless(checkpoint: Path) -> None:
    file = checkpoint / "manifest.json"
    data = file.read_bytes()
    for index in range(len(data)):
        file.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        try:
            tree, metadata = load(checkpoint)
        except CheckpointError as error:
            assert str(file) in str(error)
            assert "\n" not in str(error)
        else:  # white space
            assert_same(tree, TREE)
            assert metadata == {"score": 1.5}


@pytest.mark.parametrize("size", [0, 10, 130])
def test_a_truncated_leaf_is_found(checkpoint: Path, size: int) -> None:
    file, first, end = place(checkpoint, "actor/kernel")
    os.truncate(file, first + size)
    text = f"^{file}: holds {first + size} bytes, at least {end} were written"
    with pytest.raises(CheckpointError, match=text):
        load(checkpoint)


def test_a_missing_leaf_is_found(checkpoint: Path) -> None:
    file, _, _ = place(checkpoint, "actor/bias")
    file.unlink()
    with pytest.raises(CheckpointError, match=f"^{file}: missing"):
        load(checkpoint)


def test_a_missing_manifest_or_checkpoint_is_found(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json: missing"):
        load(checkpoint)
    with pytest.raises(CheckpointError, match="step_8: no such checkpoint"):
        load(checkpoint.with_name("step_8"))


@pytest.mark.parametrize(
    "text", ["", "{", "\x00\x01", "[" * 100_000, "[]", "null", '{"format_version": 1}', "{}"]
)
def test_a_garbage_manifest_is_found(checkpoint: Path, text: str) -> None:
    (checkpoint / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json: "):
        load(checkpoint)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"format_version": 3}, "newer version of booster_ray: format 3, this one reads 2"),
        ({"format_version": "1"}, "unknown format_version '1'"),
        ({"file": "../secret.npy"}, "not a leaf's file name: '../secret.npy'"),
        ({"file": "/etc/passwd"}, "not a leaf's file name"),
        ({"file": 3}, "malformed"),
        ({"dtype": "object"}, "arrays.bin: holds float64"),
        ({"dtype": "no such"}, "unknown dtype 'no such'"),
        ({"shape": [3, 2]}, "arrays.bin: holds float64"),
    ],
)
def test_a_forged_manifest_is_refused(
    checkpoint: Path, edit: dict[str, object], message: str
) -> None:
    forge(checkpoint, edit)
    with pytest.raises(CheckpointError, match=message):
        load(checkpoint)


def test_nothing_is_unpickled(checkpoint: Path) -> None:
    file, _, _ = place(checkpoint, "actor/kernel")
    with file.open("wb") as stream:
        np.save(stream, np.array([os.getcwd], object), allow_pickle=True)
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    forge(checkpoint, {"offset": 0, "bytes": len(data), "sha256": digest})
    with pytest.raises(CheckpointError, match=f"^{file}: not an array file"):
        load(checkpoint)


def test_what_an_older_release_wrote_is_read(tmp_path: Path) -> None:
    """Format 1: a file for each array."""
    path = tmp_path / "step_7"
    path.mkdir()
    leaves: dict[str, object] = {"step": {"value": 7}}
    for index, (name, array) in enumerate([("a/w", np.arange(6.0)), ("b", np.ones(2, "i4"))]):
        file = path / f"{index:05d}.npy"
        np.save(file, array)
        data = file.read_bytes()
        leaves[name] = {
            "file": file.name,
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
        }
    body = {"leaves": leaves, "metadata": {"score": 2.0}}
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    manifest = {"format_version": 1, "sha256": digest, **body}
    (path / "manifest.json").write_text(json.dumps(manifest))
    tree, metadata = load(path)
    assert_same(tree, {"step": 7, "a": {"w": np.arange(6.0)}, "b": np.ones(2, "i4")})
    assert metadata == {"score": 2.0}
    (path / "00001.npy").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"00001\.npy: holds 0 bytes"):
        load(path)


def test_a_staged_state_does_not_change_with_the_arrays_it_was_taken_of(tmp_path: Path) -> None:
    weights = np.zeros(3)
    staged = store.stage({"w": weights})
    weights[:] = 1
    store.write(tmp_path / "a", staged)
    np.testing.assert_array_equal(load(tmp_path / "a")[0]["w"], np.zeros(3))
