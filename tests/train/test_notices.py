"""Notices of preemption: what clouds' metadata servers say, and which machines ask them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import driving
import pytest
from train import metadata
from train.metadata import Cloud, serving

from booster_ray.config import Trainer
from booster_ray.train import notices
from booster_ray.train.notices import LINK_LOCAL, Aws, Azure, Google, Notice, machine_sources

VARIABLES = {Google: Google.HOST, Aws: Aws.ENDPOINT, Azure: Azure.HOST}
DEADLINE = float(int(time.time()) + 100)


@contextmanager
def listening(
    kind: type[Google | Aws | Azure], cloud: Cloud, patch: pytest.MonkeyPatch
) -> Iterator[list[Notice]]:
    """What is heard of a cloud whose server the environment names."""
    heard: list[Notice] = []
    ended = threading.Event()
    patch.setattr(notices, "POLL_SECONDS", 0.05)
    patch.setattr(kind, "every", 0.05)
    with serving(cloud) as address:
        patch.setenv(VARIABLES[kind], address if kind is Google else f"http://{address}")
        (source,) = machine_sources(Trainer())
        assert isinstance(source, kind)
        waiting = threading.Thread(target=source, args=(heard.append, ended))
        waiting.start()
        yield heard
        ended.set()
        cloud.preempt()
        waiting.join(timeout=20)
        assert not waiting.is_alive()


def test_googles_notice_arrives_through_a_long_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = metadata.Google()
    cloud.broken = 1  # as when the server is updated
    with listening(Google, cloud, monkeypatch) as heard:
        driving.wait_for(lambda: any("wait_for_change" in one for one in cloud.asked))
        assert not heard
        cloud.preempt()
        driving.wait_for(lambda: heard)
    assert [(notice.source, notice.deadline) for notice in heard] == [
        ("Google preempts the machine", None)
    ]
    assert cloud.asked[-1]["last_etag"] == "a"


def test_awss_notice_arrives_with_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = metadata.Aws(DEADLINE)
    cloud.broken = 1
    with listening(Aws, cloud, monkeypatch) as heard:
        driving.wait_for(lambda: len(cloud.asked) > 4)
        cloud.token = "second"  # the first has run out
        before = len(cloud.asked)
        driving.wait_for(lambda: len(cloud.asked) > before + 4)
        assert not heard
        cloud.preempt()
        driving.wait_for(lambda: heard)
    assert [(notice.source, notice.deadline) for notice in heard] == [
        ("AWS takes the spot instance (terminate)", DEADLINE)
    ]
    tokens = [one for one in cloud.asked if one["path"] == "/latest/api/token"]
    assert len(tokens) == 3 and {one["method"] for one in tokens} == {"PUT"}


@pytest.mark.parametrize("kind", ["Preempt", "Terminate"])
@pytest.mark.parametrize("deadline", [DEADLINE, None], ids=["known", "unknown"])
def test_azures_event_arrives_if_it_is_this_machines(
    monkeypatch: pytest.MonkeyPatch, kind: str, deadline: float | None
) -> None:
    cloud = metadata.Azure(deadline, kind)
    cloud.broken = 1
    with listening(Azure, cloud, monkeypatch) as heard:
        driving.wait_for(lambda: len(cloud.asked) > 4)
        assert not heard  # neither a neighbour's nor a reboot
        cloud.preempt()
        driving.wait_for(lambda: heard)
    assert [(notice.source, notice.deadline) for notice in heard] == [
        (f"Azure takes the machine ({kind})", deadline)
    ]


@pytest.mark.parametrize("body", ["", "[]", "null", '{"Events": [{}]}', '{"time": 1}'])
def test_nonsense_is_no_notice(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    cloud = metadata.Aws(DEADLINE)
    cloud.body = body
    cloud.preempt()
    with listening(Aws, cloud, monkeypatch) as heard:
        driving.wait_for(lambda: len(cloud.asked) > 4)
    assert not heard


@pytest.mark.parametrize(
    ("says", "kind", "address"),
    [
        ({}, None, None),
        ({"product_name": "Some Board", "sys_vendor": "Microsoft Corporation"}, None, None),
        ({"product_name": "Google Compute Engine"}, Google, "http://metadata.google.internal"),
        ({"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge"}, Aws, LINK_LOCAL),
        ({"sys_vendor": "Xen", "bios_version": "4.11.amazon"}, Aws, LINK_LOCAL),
        ({"chassis_asset_tag": Azure.TAG}, Azure, LINK_LOCAL),
    ],
)
def test_only_the_clouds_own_machine_asks_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    says: dict[str, str],
    kind: type | None,
    address: str | None,
) -> None:
    for name in (*VARIABLES.values(), Aws.DISABLED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(notices, "DMI", tmp_path)
    for name, line in says.items():
        (tmp_path / name).write_text(f"{line}\n")
    found = {cloud: cloud.address() for cloud in notices.CLOUDS}
    assert found == {**dict.fromkeys(notices.CLOUDS), **({kind: address} if kind else {})}
    assert machine_sources(Trainer(preemption_notice="none")) == []


def test_aws_is_not_asked_where_its_own_clients_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(Aws.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv(Aws.DISABLED, "true")
    assert Aws.address() is None
