"""Remote storage: copied whole, manifest last; fetched by a machine that has nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from store import s3_server, volume
from store.ring import Ring, expected
from store.volume import Volume

from booster_ray.store import remote as storage
from booster_ray.store import writer
from booster_ray.store.checkpoint import CheckpointError, load, load_newest
from booster_ray.store.checkpoint.log import SEGMENTS
from booster_ray.store.lease import LeaseLost, take
from booster_ray.store.mirror import Mirror
from booster_ray.store.remote import RemoteFolder, StorageError
from booster_ray.store.writer import Writer

RECORDS = ("progress.jsonl", "error.txt")


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server.serving() as environment:
        yield environment


@pytest.fixture
def s3(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An S3 server on loopback, and the environment that leads to it; its bucket."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return s3_server.BUCKET


@pytest.fixture(params=["s3", "volume", "path", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Storage of every kind, empty."""
    kind, name = request.param, tmp_path.name
    if kind == "s3":
        return f"s3://{request.getfixturevalue('s3')}/{name}"
    if kind == "volume":
        fsspec.register_implementation("volume", Volume, clobber=True)
        monkeypatch.setattr(Volume, "put_before_failing", None)
        return f"volume://{tmp_path}/there"
    if kind == "path":
        volume.guard(tmp_path / "there")
        monkeypatch.setattr(storage, "VOLUMES", (str(tmp_path),))
        return f"{tmp_path}/there"
    return f"memory://{name}"


def mirror(url: str) -> Mirror:
    return Mirror(RemoteFolder(url).below("run/trials/0001"), RECORDS)


def run(directory: Path, url: str, steps: list[int], keep: int = 2) -> None:
    """Saves at ``steps`` as a run does: reports first, then the checkpoint."""
    there = mirror(url)
    there.pull(directory)
    directory.mkdir(exist_ok=True)
    saver = Writer(directory, keep, there, RECORDS[:1])
    found = saver.restore()
    ring = Ring(found[0]["added"] if found else 0)
    for step in steps:
        ring.added = step
        with (directory / RECORDS[0]).open("a") as stream:
            stream.write(f"{step}\n")
        saver.save(f"best_{step}", lambda: {"w": np.ones(2)}, {})
        saver.save(f"step_{step}", ring.tree, {"env_steps": step})
        saver.finish()
    saver.close()


def everything(folder: RemoteFolder, name: str = "") -> dict[str, int]:
    found: dict[str, int] = {}
    for entry, size in folder.names(name).items():
        path = f"{name}/{entry}".lstrip("/")
        found |= everything(folder, path) if size is None else {path: size}
    return found


def local(directory: Path) -> dict[str, int]:
    return {
        str(file.relative_to(directory)): file.stat().st_size
        for file in directory.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def test_the_copy_is_like_the_folder(url: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", mirror(url).folder
    run(here, url, [4, 7, 12])
    copied, records = everything(there), {}
    for name in ("step_7", "step_12", "best_12"):
        records[f"{name}/progress.jsonl"] = copied[f"{name}/progress.jsonl"]
    assert copied == local(here) | records
    assert there.read("progress.jsonl") == b"4\n7\n12\n"
    # What is dropped here is dropped there.
    run(here, url, [30], keep=1)
    assert sorted(there.names()) == ["best_30", "progress.jsonl", SEGMENTS, "step_30"]
    assert sorted(there.names(SEGMENTS)) == sorted(f.name for f in (here / SEGMENTS).iterdir())


def test_a_machine_that_has_nothing_goes_on(url: str, tmp_path: Path) -> None:
    run(tmp_path / "one", url, [4, 7])
    run(tmp_path / "two", url, [12])
    assert (tmp_path / "two" / RECORDS[0]).read_text() == "4\n7\n12\n"
    # The first again, which has fallen behind.
    run(tmp_path / "one", url, [13])
    assert (tmp_path / "one" / RECORDS[0]).read_text() == "4\n7\n12\n13\n"
    tree, _ = load(tmp_path / "one" / "step_13")
    np.testing.assert_array_equal(tree["log"], expected(3, 13))
    load(tmp_path / "one" / "best_13")


def test_where_no_checkpoint_is_whole_it_is_said(url: str, tmp_path: Path) -> None:
    """A machine that begins anew beside them would write over what may be mended."""
    run(tmp_path / "one", url, [4, 7])
    there = mirror(url)
    for name in there.folder.names(SEGMENTS):
        there.folder.remove(f"{SEGMENTS}/{name}")
    with pytest.raises(CheckpointError, match=r"2 checkpoints, none of them whole; .* step_7"):
        there.pull(tmp_path / "two")
    assert there.folder.names("step_7")
    there.pull(tmp_path / "one")  # a machine that has its own goes on


def test_what_is_here_is_not_fetched_over(url: str, tmp_path: Path) -> None:
    """A checkpoint was written here, but not copied before the machine went down."""
    run(tmp_path / "one", url, [4])
    saver = Writer(tmp_path / "one", 2)
    saver.restore()
    saver.save("step_7", Ring(7).tree, {})
    saver.close()
    (tmp_path / "one" / RECORDS[0]).write_text("4\n7\n")
    run(tmp_path / "one", url, [])
    assert (tmp_path / "one" / RECORDS[0]).read_text() == "4\n7\n"
    assert mirror(url).folder.names("step_7")  # and goes there now


def owned(url: str) -> Mirror:
    """A copy with an owner's lease, as a run has it."""
    there = RemoteFolder(url).below("run/trials/0001")
    return Mirror(there, RECORDS, take(there, "writer", over=True))


def save(directory: Path, there: Mirror, step: int) -> None:
    directory.mkdir(exist_ok=True)
    saver = Writer(directory, 2, there)
    saver.restore()
    saver.save(f"step_{step}", Ring(step).tree, {"env_steps": step})
    saver.finish()
    saver.close()


def test_one_that_lost_the_run_takes_nothing_away(url: str, tmp_path: Path) -> None:
    """Cut off from its driver, it saves once more while another goes on from its checkpoint."""
    lost, living = tmp_path / "lost", tmp_path / "living"
    first = owned(url)
    save(lost, first, 4)
    second = owned(url)
    second.pull(living)
    before = everything(second.folder)
    with pytest.raises(LeaseLost, match="in the hands of process"):
        save(lost, first, 30)  # of the rows of step 4 it keeps none
    assert everything(second.folder) == before
    save(living, second, 7)
    third = owned(url)
    third.pull(tmp_path / "fresh")
    tree, _ = load(tmp_path / "fresh" / "step_7")
    np.testing.assert_array_equal(tree["log"], expected(0, 7))
    # Whoever writes next clears up after those before.
    assert sorted(n for n in third.folder.names() if n.startswith("e")) == ["e000002"]
    # And the one that was lost goes on from the other's, though it had come further.
    fourth = owned(url)
    fourth.pull(lost)
    assert [p.name for p in sorted(lost.glob("step_*"))] == ["step_4", "step_7"]


def test_what_is_removed_while_it_is_read_is_found_anew(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner before was about to push when this one took over, and clears up meanwhile."""
    save(tmp_path / "one", owned(url), 4)
    second = owned(url)
    second.pull(tmp_path / "two")
    third = owned(url)
    get, pushed = RemoteFolder.get, False

    def late(folder: RemoteFolder, name: str, file: Path) -> None:
        nonlocal pushed
        if not pushed:
            pushed = True
            monkeypatch.setattr(second, "_lease", None)  # its checks were just before
            save(tmp_path / "two", second, 7)
        get(folder, name, file)

    monkeypatch.setattr(RemoteFolder, "get", late)
    third.pull(tmp_path / "three")
    assert [p.name for p in (tmp_path / "three").glob("step_*")] == ["step_4", "step_7"]
    load(tmp_path / "three" / "step_7")


def test_a_manifest_goes_up_when_its_segments_are_there(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, put = owned(url), RemoteFolder.put

    def losing(folder: RemoteFolder, file: Path, name: str) -> None:
        if SEGMENTS not in name:
            put(folder, file, name)

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="was sent and is not"):
        patch.setattr(RemoteFolder, "put", losing)
        patch.setattr(writer, "FINAL_SECONDS", 0.0)
        with pytest.raises(StorageError, match=r"segments/\w+\.npy was sent and is not there"):
            save(tmp_path / "one", there, 4)
    assert "manifest.json" not in there.folder.names("e000001/step_4")
    save(tmp_path / "one", there, 7)  # the next try sends what was lost
    owned(url).pull(tmp_path / "two")
    load(tmp_path / "two" / "step_7")


def test_a_run_of_an_earlier_release_goes_on(url: str, tmp_path: Path) -> None:
    """Its checkpoints lie in the run's folder itself; they stay until one of ours is whole."""
    run(tmp_path / "one", url, [4, 7])
    there = owned(url)
    there.pull(tmp_path / "two")
    assert there.folder.names("step_7")
    save(tmp_path / "two", there, 9)
    assert sorted(there.folder.names()) == [".lease", "e000001", "progress.jsonl"]
    owned(url).pull(tmp_path / "one")  # which has stayed behind
    assert load_newest(tmp_path / "one")[1]["env_steps"] == 9  # type: ignore[index]


def test_segments_are_copied_where_they_lie(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that goes on from another's checkpoint does not send its replay again."""
    url = f"s3://{s3}/copied"
    save(tmp_path / "one", owned(url), 7)
    there, sent, put = owned(url), [], RemoteFolder.put

    def counting(folder: RemoteFolder, file: Path, name: str) -> None:
        sent.append(name)
        put(folder, file, name)

    there.pull(tmp_path / "two")
    monkeypatch.setattr(RemoteFolder, "put", counting)
    save(tmp_path / "two", there, 9)
    assert len([name for name in sent if SEGMENTS in name]) == 1
    assert len(there.folder.names(f"e000002/{SEGMENTS}")) == 2


def test_only_what_is_new_is_sent(url: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    run(here, url, [4, 7])
    sent = []

    class Counting(RemoteFolder):
        def put(self, file: Path, name: str) -> None:
            sent.append(name)
            super().put(file, name)

    again = Mirror(Counting(f"{url}/run/trials/0001"), RECORDS)
    again.push(here)
    assert sent == ["progress.jsonl"]
    saver = Writer(here, 2, again)
    saver.restore()
    saver.save("step_9", Ring(9).tree, {})
    saver.finish()
    saver.close()
    assert sum(name.startswith(SEGMENTS) for name in sent) == 1


def test_a_checkpoint_without_its_manifest_is_not_there(url: str, tmp_path: Path) -> None:
    run(tmp_path / "one", url, [4, 7])
    mirror(url).folder.remove("step_7/manifest.json")
    run(tmp_path / "two", url, [])
    assert [p.name for p in (tmp_path / "two").glob("step_*")] == ["step_4"]
    assert (tmp_path / "two" / RECORDS[0]).read_text() == "4\n"
    # Written again, it is whole again.
    run(tmp_path / "two", url, [7])
    run(tmp_path / "three", url, [])
    np.testing.assert_array_equal(load(tmp_path / "three" / "step_7")[0]["log"], expected(0, 7))


def test_a_damaged_copy_falls_back_and_is_mended(url: str, tmp_path: Path) -> None:
    run(tmp_path / "one", url, [4, 7])
    there = mirror(url).folder
    (tmp_path / "bad").write_bytes(b"\0" * 208)
    newest = max((tmp_path / "one" / SEGMENTS).iterdir(), key=lambda f: f.stat().st_mtime_ns)
    there.put(tmp_path / "bad", f"{SEGMENTS}/{newest.name}")
    there.remove("best_7/arrays.bin")
    with pytest.warns(UserWarning, match=newest.name):
        run(tmp_path / "two", url, [7])
    run(tmp_path / "three", url, [])
    np.testing.assert_array_equal(load(tmp_path / "three" / "step_7")[0]["log"], expected(0, 7))
    load(tmp_path / "three" / "best_7")


def test_a_copy_that_breaks_off_anywhere_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its 1st, 2nd, … file, which a volume then shows half."""
    fsspec.register_implementation("volume", Volume, clobber=True)
    sends = ["progress.jsonl", "segment", *2 * ["progress.jsonl", "arrays.bin", "manifest.json"]]
    for done, name in enumerate(sends):
        url = f"volume://{tmp_path}/there-{done}"
        here, fresh = tmp_path / f"here-{done}", tmp_path / f"fresh-{done}"
        monkeypatch.setattr(Volume, "put_before_failing", None)
        run(here, url, [4, 7])
        saver = Writer(here, 2)
        saver.restore()
        (here / RECORDS[0]).write_text("4\n7\n9\n")
        saver.save("best_9", lambda: {"w": np.ones(2)}, {})
        saver.save("step_9", Ring(9).tree, {"env_steps": 9})
        saver.close()
        monkeypatch.setattr(Volume, "put_before_failing", done)
        with pytest.raises(StorageError, match="the connection broke"):
            mirror(url).push(here)
        half = [n for n, size in everything(mirror(url).folder).items() if size == 9]
        assert len(half) == 1
        assert half[0].endswith(name) or (name == "segment" and half[0].startswith(SEGMENTS))
        monkeypatch.setattr(Volume, "put_before_failing", None)
        mirror(url).pull(fresh)
        found = load_newest(fresh)
        assert found is not None
        step = 9 if done > 4 else 7  # step_9 goes first
        assert found[2].name == f"step_{step}"
        np.testing.assert_array_equal(found[0]["log"], expected(0, step))
        assert (fresh / RECORDS[0]).read_text().startswith("4\n7\n")
        mirror(url).push(here)
        mirror(url).pull(tmp_path / f"later-{done}")
        load(tmp_path / f"later-{done}" / "step_9")
        load(tmp_path / f"later-{done}" / "best_9")


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from store.test_mirror import run
print("ready", flush=True)
for step in range(int(sys.argv[4]), 10_000):
    run(Path(sys.argv[1]), sys.argv[2], [step])
    print(step, flush=True)
"""


@pytest.mark.parametrize("attempts", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_killed_in_the_middle_of_a_copy_to_s3(attempts: int, s3: str, tmp_path: Path) -> None:
    url, last = f"s3://{s3}/killed-{attempts}", 0
    for attempt in range(attempts):
        here = tmp_path / f"here-{attempt}"  # each on a fresh machine
        command = [sys.executable, "-c", CHILD, here, url, Path(__file__).parents[1], str(last + 1)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        time.sleep(0.05 * attempt)
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        told = max([last, *map(int, output.split())])
        fresh = tmp_path / f"fresh-{attempt}"
        run(fresh, url, [])
        newest = max(fresh.glob("step_*"), key=lambda p: int(p.name[5:]))
        tree, _ = load(newest)
        step = tree["added"]
        np.testing.assert_array_equal(tree["log"], expected(max(0, step - 10), step))
        assert told <= step
        last = step
    assert last >= attempts


def test_usable_storage_passes_the_probe_and_keeps_nothing_of_it(url: str) -> None:
    RemoteFolder(url).probe()
    assert RemoteFolder(url).names() == {}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("nonsense://somewhere", "nonsense"),
        ("s3://no-such-bucket/runs", "s3://no-such-bucket/runs: .*bucket does not exist"),
        ("/proc/Volumes/x", "/proc/Volumes/x: .*"),
    ],
)
def test_unusable_storage_is_one_line(
    bad: str, message: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "VOLUMES", ("/proc/Volumes",))
    assert storage.is_remote(bad)
    with pytest.raises(StorageError, match=message) as error:
        RemoteFolder(bad).probe()
    assert "\n" not in str(error.value)


def test_what_is_remote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("s3://b/x", "gs://b", "memory://x", "/Volumes/a/b/c"):
        assert storage.is_remote(name)
    for name in ("results", "/data/runs", "~/runs", "file:///data", "/VolumesX", "./Volumes/a"):
        assert not storage.is_remote(name)
    assert storage.local_path("file:///data/runs") == Path("/data/runs")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    one, other = storage.local_path("s3://b/x"), storage.local_path("s3://b_x")
    assert one.parent == other.parent == tmp_path / "booster_ray" / "storage"
    assert one != other
    assert storage.local_path("s3://b/x/") == one
