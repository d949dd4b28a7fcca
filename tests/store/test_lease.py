"""Who owns a folder: one at a time, whichever machine asks, and the rest learn it."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from store import s3_server
from store.volume import Volume

from booster_ray.store import lease
from booster_ray.store.lease import LeaseHeld, LeaseLost, Place, read_owner, take
from booster_ray.store.local import LocalFolder
from booster_ray.store.remote import RemoteFolder


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server.serving() as environment:
        yield environment


@pytest.fixture(params=["disk", "s3", "volume", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "disk":
        return LocalFolder(tmp_path / "run")
    if request.param == "s3":
        for name, value in request.getfixturevalue("server").items():
            monkeypatch.setenv(name, value)
        return RemoteFolder(f"s3://{s3_server.BUCKET}/{tmp_path.name}/run")
    if request.param == "volume":
        fsspec.register_implementation("volume", Volume, clobber=True)
        monkeypatch.setattr(Volume, "put_before_failing", None)
        return RemoteFolder(f"volume://{tmp_path}/run")
    return RemoteFolder(f"memory://{tmp_path.name}/run")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "SILENT_SECONDS", 0.6)
    monkeypatch.setattr(lease, "WATCH_SECONDS", 0.05)


def test_a_file_is_created_once(place: Place) -> None:
    assert place.create("a/b.json", b"one")
    assert not place.create("a/b.json", b"two")
    assert place.read("a/b.json") == b"one"
    place.write("a/b.json", b"three")
    assert place.read("a/b.json") == b"three" and list(place.names("a")) == ["b.json"]


def test_of_many_at_once_one_creates_a_file(place: Place) -> None:
    if getattr(place, "url", "").startswith("volume:"):
        pytest.skip("can only be written and read back")
    began, made = threading.Barrier(8), []

    def create(number: int) -> None:
        began.wait()
        if place.create("x.json", str(number).encode()):
            made.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in made] == [place.read("x.json")]


def test_the_newest_owner_is_the_only_one(place: Place) -> None:
    first = take(place, "writer", over=True)
    first.check()
    second = take(place, "writer", over=True)
    assert (first.epoch, second.epoch) == (1, 2)
    second.check()
    with pytest.raises(LeaseLost, match=r"in the hands of process \d+ on .*since 2\d\d\d-"):
        first.check()
    with pytest.raises(LeaseLost):
        first.check_known()
    first.release()  # says nothing in the other's place
    assert "driver" not in str(list(place.names(".lease")))
    take(place, "driver")  # another role is another lease
    second.check()


def test_one_that_lives_is_not_taken_over_unasked(place: Place, hasty: None) -> None:
    said: list[str] = []
    first = take(place, "driver")
    first.keep()
    with pytest.raises(LeaseHeld, match=r"is driven by process \d+ on .*, which lives"):
        take(place, "driver", say=said.append)
    first.release()
    said.clear()
    assert take(place, "driver", say=said.append).epoch == 2 and not said


def test_one_that_is_silent_has_ended(place: Place, hasty: None) -> None:
    take(place, "driver").beat()  # and it died
    began, said = time.monotonic(), list[str]()
    second = take(place, "driver", say=said.append)
    assert len(said) == 1 and "waiting whether it still is" in said[0]
    assert second.epoch == 2 and time.monotonic() - began > 0.3
    second.beat()
    assert take(place, "driver", dead=lambda owner: owner.token == second.owner.token).epoch == 3
    # One that died before its first beat.
    assert take(place, "driver").epoch == 4


def test_a_lost_owner_that_beats_on_hears_of_it(place: Place, hasty: None) -> None:
    first = take(place, "driver")
    first.keep()
    take(place, "driver", over=True)
    deadline = time.monotonic() + 10
    while first.lost is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(LeaseLost):
        first.check_known()


def test_the_same_owner_goes_on_where_nobody_came_between(place: Place) -> None:
    first = take(place, "writer", over=True)
    again = take(place, "writer", over=True, token=first.owner.token)
    assert again.owner == first.owner
    take(place, "writer", over=True)
    assert take(place, "writer", over=True, token=first.owner.token).epoch == 3


def test_old_owners_are_forgotten_and_half_files_are_no_owner(place: Place) -> None:
    for _ in range(6):
        last = take(place, "writer", over=True)
    assert len(place.names(".lease")) == lease.KEPT and last.epoch == 6
    place.write(".lease/writer-000007.json", b'{"host"')
    assert read_owner(place, "writer") is None
    with pytest.raises(LeaseLost, match="another process"):
        last.check()
    assert take(place, "writer", over=True).epoch == 8


def _contend(folder: Path, out: Path) -> None:
    out.write_text(json.dumps(take(LocalFolder(folder), "writer", over=True).epoch))


def test_processes_that_ask_at_once_get_different_epochs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    outs = [tmp_path / f"{number}" for number in range(8)]
    processes = [context.Process(target=_contend, args=(tmp_path / "run", out)) for out in outs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(json.loads(out.read_text()) for out in outs) == list(range(1, 9))
