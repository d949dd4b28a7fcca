"""Metadata servers of clouds, as much of them as a notice needs, over HTTP on this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlparse


class Answer(NamedTuple):
    status: int
    body: str = ""
    headers: Mapping[str, str] = {}


class Cloud:
    """Knows whether the machine is to be taken, and how it says so."""

    def __init__(self) -> None:
        self.preempted = threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.broken = 0
        """Questions that get no answer yet."""

    def preempt(self) -> None:
        self.preempted.set()

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any) -> Answer:
        raise NotImplementedError


class Google(Cloud):
    def answer(self, method: str, path: str, query: dict[str, str], headers: Any) -> Answer:
        if path != "/computeMetadata/v1/instance/preempted":
            return Answer(404)
        if headers["Metadata-Flavor"] != "Google":
            return Answer(403)
        if query.get("wait_for_change") == "true" and query["last_etag"] == "a":
            self.preempted.wait(5)
        if self.preempted.is_set():
            return Answer(200, "TRUE", {"ETag": "b"})
        return Answer(200, "FALSE", {"ETag": "a"})


class Aws(Cloud):
    """IMDSv2: nothing is said without a token, and tokens run out."""

    def __init__(self, deadline: float, action: str = "terminate") -> None:
        super().__init__()
        self.token = "first"
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(deadline))
        self.body = json.dumps({"action": action, "time": at})

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any) -> Answer:
        if path == "/latest/api/token":
            lasting = int(headers.get("X-aws-ec2-metadata-token-ttl-seconds", "0"))
            if method != "PUT" or not 1 <= lasting <= 21_600:
                return Answer(400)
            return Answer(200, self.token)
        if headers["X-aws-ec2-metadata-token"] != self.token:
            return Answer(401)
        if path == "/latest/meta-data/events/recommendations/rebalance":
            return Answer(200, json.dumps({"noticeTime": "2026-01-01T00:00:00Z"}))
        if path == "/latest/meta-data/spot/instance-action" and self.preempted.is_set():
            return Answer(200, self.body)
        return Answer(404)


class Azure(Cloud):
    def __init__(self, deadline: float | None, kind: str = "Preempt") -> None:
        super().__init__()
        begins = formatdate(deadline, usegmt=True) if deadline else ""
        self.events = [
            {**self.event("Reboot", "mine"), "NotBefore": begins},
            {**self.event("Preempt", "neighbour"), "NotBefore": begins},
        ]
        self.mine = {**self.event(kind, "mine"), "NotBefore": begins}

    @staticmethod
    def event(kind: str, machine: str) -> dict[str, Any]:
        return {
            "EventId": "602d9444-d2cd-49c7-8624-8643e7171297", "EventStatus": "Scheduled",
            "EventType": kind, "ResourceType": "VirtualMachine", "Resources": [machine],
            "Description": "", "EventSource": "Platform", "DurationInSeconds": -1,
        }  # fmt: skip

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any) -> Answer:
        if headers["Metadata"] != "true":
            return Answer(400)
        if path == "/metadata/instance/compute/name" and query["format"] == "text":
            return Answer(200, "mine")
        if path == "/metadata/scheduledevents" and query["api-version"] == "2020-07-01":
            events = self.events + ([self.mine] if self.preempted.is_set() else [])
            return Answer(200, json.dumps({"DocumentIncarnation": 1, "Events": events}))
        return Answer(404)


@contextmanager
def serving(cloud: Cloud) -> Iterator[str]:
    """The server's ``name:port``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlparse(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            cloud.asked.append({"method": self.command, "path": url.path, **query})
            found = Answer(503)
            if cloud.broken > 0:
                cloud.broken -= 1
            else:
                found = cloud.answer(self.command, url.path, query, self.headers)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body.encode())

        do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        cloud.preempted.set()
        server.shutdown()
        server.server_close()
