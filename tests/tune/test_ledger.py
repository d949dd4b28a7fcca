"""The ledger: each thing is settled once, on a folder and on remote storage."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from booster_ray.config import ConfigError
from booster_ray.store import durable
from booster_ray.store.durable import create_file
from booster_ray.store.files import SPEC, VERDICT
from booster_ray.store.progress import History
from booster_ray.store.remote import RemoteFolder
from booster_ray.tune.ledger import Ledger, Spec, Verdict, scores_of, verdict_of
from booster_ray.tune.records import TrialRecord


class Machines:
    """Folders of machines that share one storage: a folder, or remote storage."""

    def __init__(self, tmp_path: Path, remote: bool) -> None:
        self._base, self._remote = tmp_path, remote

    def ledger(self, name: str) -> Ledger:
        root = self._base / (name if self._remote else "shared")
        root.mkdir(exist_ok=True)
        url = f"memory://{self._base}/runs/s"
        found = Ledger(root, RemoteFolder(url) if self._remote else None)
        found.read()
        return found


@pytest.fixture(params=["folder", "remote"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Machines:
    return Machines(tmp_path, request.param == "remote")


def test_another_machine_reads_what_one_has_settled(machines: Machines) -> None:
    one = machines.ledger("a")
    spec = Spec(3, {"rewards.height": 0.1, "sac.actor_hidden": [64, 32]}, {"memo": "mine"})
    verdict = Verdict("PRUNED", [1.5], None, 600, {"env_steps": 300, "score": 1.5}, [[300, 1.5]])
    assert one.enter(spec) == spec and one.close(3, verdict) == verdict
    one.enter(Spec(4, {}))
    for _ in range(2):  # from the storage, then from this machine's copy
        other = machines.ledger("b")
        assert other.specs == {3: spec, 4: Spec(4, {})} and other.verdicts == {3: verdict}


def test_the_first_counts_whoever_was_first(machines: Machines) -> None:
    one, other = machines.ledger("a"), machines.ledger("b")
    one.enter(Spec(0, {"x": 1}))
    assert other.enter(Spec(0, {"x": 2})).params == {"x": 1}
    other.close(0, Verdict("COMPLETE", [1.0]))
    late = one.close(0, Verdict("FAIL", None, "ValueError"))
    assert late == Verdict("COMPLETE", [1.0]) and one.verdicts == other.verdicts
    assert machines.ledger("a").verdicts == machines.ledger("c").verdicts == {0: late}


def test_who_may_not_write_changes_nothing(tmp_path: Path) -> None:
    def taken_over() -> None:
        raise ConfigError("the lease is another's")

    ledger = Ledger(tmp_path, None, taken_over)
    with pytest.raises(ConfigError, match="another's"):
        ledger.enter(Spec(0, {}))
    assert list(tmp_path.iterdir()) == [] and not ledger.specs


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "is damaged"), ('{"format": 1, "num', "is damaged"), ('{"format": 9}', "is of format 9")],
)
def test_a_damaged_or_foreign_file_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    (tmp_path / "trials" / "0000" / SPEC).write_text(text)
    with pytest.raises(ConfigError, match=f"0000/spec.json: {line}") as caught:
        Ledger(tmp_path).read()
    assert "\n" not in str(caught.value)


def test_a_damaged_copy_is_fetched_again(tmp_path: Path) -> None:
    machines = Machines(tmp_path, remote=True)
    machines.ledger("a").enter(Spec(0, {"x": 1}))
    copy = tmp_path / "a" / "trials" / "0000" / SPEC
    copy.write_text("")
    assert machines.ledger("a").specs[0].params == {"x": 1}
    assert json.loads(copy.read_text())["params"] == {"x": 1}


def test_an_earlier_releases_folder_holds_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    (tmp_path / "trials" / "0000" / "progress.jsonl").touch()
    (tmp_path / "trials" / ".0001.copy").mkdir()
    ledger = Ledger(tmp_path)
    ledger.read()
    assert not ledger.specs


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_create_a_file_one_succeeds_and_nobody_sees_half(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(durable.NO_LINKS[0], "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path, read, done = tmp_path / VERDICT, list[bytes](), threading.Event()

    def look() -> None:
        while not done.is_set():
            if path.exists():
                read.append(path.read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    datas = [bytes([65 + i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8 if links else 1) as pool:
        made = list(pool.map(lambda data: create_file(path, data), datas))
    done.set()
    looking.join()
    assert made.count(True) == 1 and path.read_bytes() == datas[made.index(True)]
    assert set(read) <= {path.read_bytes()}
    assert [p.name for p in tmp_path.iterdir()] == [VERDICT]


def test_a_verdict_says_what_a_trial_has_reached() -> None:
    history = [
        {"env_steps": 0, "score": 9.0},
        {"env_steps": 100, "score": 1.0},
        {"env_steps": 200, "critic_loss": float("nan")},
        {"env_steps": 300, "score": float("nan")},
    ]
    record = TrialRecord("0000", 0, "RUNNING", {}, History(history), 600, None, None, started=True)
    told = verdict_of(record, ["score"], "PRUNED")
    assert told == Verdict("PRUNED", [9.0], None, 300, history[0], [[100, 1.0]])
    assert verdict_of(record, ["score", "robustness"], "COMPLETE").state == "FAIL"
    assert verdict_of(record, ["score"], "FAIL").values is None
    assert scores_of(history[:1]) == []
