"""Where notices come from that a machine will be taken away: clouds, Ray, files."""

from __future__ import annotations

import http.client
import json
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from booster_ray.config import Trainer

DMI = Path("/sys/class/dmi/id")
"""What a machine's firmware says of its maker."""
LINK_LOCAL = "http://169.254.169.254"
"""Where AWS and Azure answer a machine about itself."""
POLL_SECONDS = 1.0
LONGEST_PAUSE = 30.0
"""Between questions to a server that does not answer."""
ANSWER_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """That this process will end."""

    source: str
    deadline: float | None = None
    """Unix time at which the machine goes; None: any moment now."""
    heard: float = field(default_factory=time.monotonic)


Notify = Callable[[Notice], None]
Source = Callable[[Notify, threading.Event], None]
"""Waits for a notice until the event is set; runs in a thread of its own and raises nothing."""


def machine_sources(trainer: Trainer) -> list[Source]:
    """The notices that this machine can get and the config heeds, beside signals."""
    sources: list[Source] = []
    if trainer.preemption_notice == "none":
        return sources
    if in_ray():
        sources.append(ray_drain)
    for cloud in CLOUDS:
        if address := cloud.address():
            sources.append(cloud(address))
    return sources


def in_ray() -> bool:
    """Whether this process belongs to a Ray cluster."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


class NoticeFile:
    """A file that appears, at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, notify: Notify, ended: threading.Event) -> None:
        """Look for it until it is there."""
        while not ended.wait(POLL_SECONDS / 2):
            if self._path.exists():
                notify(Notice(str(self._path.name)))
                return


def ray_drain(notify: Notify, ended: threading.Event) -> None:
    """Ray drains the node that this process runs on, as before a planned end of it.

    Ray Train's ``get_preemption_info`` reads the same state, but only within its workers.
    """
    import ray
    from ray._private.state import state

    node = ray.get_runtime_context().get_node_id()
    while not ended.wait(POLL_SECONDS):
        try:
            draining = state.get_draining_nodes()
        except Exception as error:  # whatever Ray raises while its head is away
            _log.debug("cannot ask for draining nodes: %r", error)
            continue
        if node in draining:
            milliseconds = draining[node]  # 0: none given
            notify(Notice("Ray drains the node", milliseconds / 1000 if milliseconds else None))
            return


class _Cloud:
    """A server that answers a machine about itself, asked until it has a notice.

    Args:
        address: of the server, with its scheme.
    """

    every = POLL_SECONDS
    """Seconds between questions."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        # The server is this machine's own, on a link-local address that no proxy knows.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    @classmethod
    def address(cls) -> str | None:
        """The server, where this machine is the cloud's or the environment names one."""
        raise NotImplementedError

    def notice(self) -> Notice | None:
        """What the server says now.

        Raises:
            OSError, HTTPException: it does not answer.
            ValueError, LookupError, TypeError: it answers something else.
        """
        raise NotImplementedError

    def __call__(self, notify: Notify, ended: threading.Event) -> None:
        """Ask until there is a notice."""
        pause = self.every
        while not ended.is_set():
            try:
                found = self.notice()
            except (
                OSError, http.client.HTTPException, ValueError, LookupError, TypeError,
            ) as error:  # fmt: skip
                _log.debug("%s: %r", self._address, error)
                ended.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if found:
                notify(found)
                return
            pause = self.every
            ended.wait(self.every)

    def _ask(
        self,
        path: str,
        headers: Mapping[str, str],
        method: str = "GET",
        seconds: float = ANSWER_SECONDS,
    ) -> tuple[str, Mapping[str, str]]:
        """A body and its headers. Raises OSError, HTTPException."""
        url = self._address + path
        asked = urllib.request.Request(url, headers=dict(headers), method=method)
        with self._open(asked, timeout=seconds) as answer:
            return answer.read().decode("utf-8", "replace"), answer.headers


class Google(_Cloud):
    """Compute Engine's notice, about 30 s before a preemptible machine goes.

    https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption
    """

    HOST = "GCE_METADATA_HOST"
    """Environment variable that Google's own clients read: ``name`` or ``name:port``."""
    PATH = "/computeMetadata/v1/instance/preempted"
    WAIT_SECONDS = 60
    """How long the server may keep a question until the answer changes."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._etag = ""

    @classmethod
    def address(cls) -> str | None:
        """See :class:`_Cloud`."""
        if named := os.environ.get(cls.HOST):
            return f"http://{named}"
        return "http://metadata.google.internal" if "Google" in _dmi("product_name") else None

    def notice(self) -> Notice | None:
        """Returns at once the first time, then when the state changes."""
        query = f"?wait_for_change=true&timeout_sec={self.WAIT_SECONDS}&last_etag={self._etag}"
        path = self.PATH + (query if self._etag else "")
        etag, self._etag = self._etag, ""  # after an error the state is asked for anew
        seconds = self.WAIT_SECONDS + ANSWER_SECONDS
        body, headers = self._ask(path, {"Metadata-Flavor": "Google"}, seconds=seconds)
        self._etag = headers.get("ETag") or etag
        return Notice("Google preempts the machine") if body.strip() == "TRUE" else None


class Aws(_Cloud):
    """EC2's notice, two minutes before a spot instance is interrupted.

    A rebalance recommendation, which may come earlier or for nothing, is not heeded.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """

    every = 5.0  # as AWS recommends
    ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
    DISABLED = "AWS_EC2_METADATA_DISABLED"
    """Environment variables that AWS's own clients read."""
    TOKEN_SECONDS = 21_600

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._token = ""

    @classmethod
    def address(cls) -> str | None:
        """See :class:`_Cloud`."""
        if os.environ.get(cls.DISABLED, "").lower() == "true":
            return None
        if named := os.environ.get(cls.ENDPOINT):
            return named
        # Of the older kind of machines the version alone tells.
        ours = "Amazon" in _dmi("sys_vendor") or "amazon" in _dmi("bios_version")
        return LINK_LOCAL if ours else None

    def notice(self) -> Notice | None:
        """See :class:`_Cloud`."""
        if not self._token:
            lasting = {"X-aws-ec2-metadata-token-ttl-seconds": str(self.TOKEN_SECONDS)}
            self._token, _ = self._ask("/latest/api/token", lasting, "PUT")
        path = "/latest/meta-data/spot/instance-action"
        try:
            body, _ = self._ask(path, {"X-aws-ec2-metadata-token": self._token})
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.NOT_FOUND:  # there is no notice
                return None
            self._token = ""  # it has run out
            raise
        found = json.loads(body)
        return Notice(
            f"AWS takes the spot instance ({found['action']})",
            datetime.fromisoformat(found["time"]).timestamp(),
        )


class Azure(_Cloud):
    """Azure's scheduled event, at least 30 s before a spot machine is evicted.

    https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
    """

    HOST = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
    """Environment variable by which Azure's own clients are led to another metadata server."""
    TAG = "7783-7084-3265-9085-8269-3286-77"
    """Of the chassis of every machine of Azure's."""
    EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
    NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
    ENDS = ("Preempt", "Terminate")
    FIRST_SECONDS = 130.0
    """The first question of a machine turns the service on, which may take two minutes."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._name = ""

    @classmethod
    def address(cls) -> str | None:
        """See :class:`_Cloud`."""
        if named := os.environ.get(cls.HOST):
            return named
        return LINK_LOCAL if _dmi("chassis_asset_tag") == cls.TAG else None

    def notice(self) -> Notice | None:
        """See :class:`_Cloud`."""
        asking = {"Metadata": "true"}
        if not self._name:
            self._name = self._ask(self.NAME, asking)[0].strip()
        events = json.loads(self._ask(self.EVENTS, asking, seconds=self.FIRST_SECONDS)[0])["Events"]
        for event in events:
            # All machines of a scale set hear of each other's events.
            if event["EventType"] not in self.ENDS or self._name not in event["Resources"]:
                continue
            begins = event.get("NotBefore")  # empty once it has begun
            deadline = parsedate_to_datetime(begins).timestamp() if begins else None
            return Notice(f"Azure takes the machine ({event['EventType']})", deadline)
        return None


CLOUDS: tuple[type[_Cloud], ...] = (Google, Aws, Azure)


def _dmi(name: str) -> str:
    """A line of what the firmware says; empty where it says nothing."""
    try:
        return (DMI / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
