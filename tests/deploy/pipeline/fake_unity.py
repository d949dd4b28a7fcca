"""Unity Catalog's REST interface, as far as the set-up uses it, behind Databricks' own client."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API = "/api/2.1/unity-catalog/"


class Unity:
    """What exists, and what was asked for."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        """Such as ``volumes/booster_soccer.experiments.logs``."""
        self.asked: list[tuple[str, str]] = []
        self.faster = False
        """Whether someone else makes what is missing before we do."""
        self.forbidden = False

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """HTTP status and JSON."""
        if self.forbidden:
            return 403, {"error_code": "PERMISSION_DENIED", "message": "no CREATE CATALOG"}
        name = path.removeprefix(API).partition("?")[0]
        if method == "POST":
            parts = [body.get("catalog_name"), body.get("schema_name"), body["name"]]
            name = f"{name}/{'.'.join(p for p in parts if p)}"
        self.asked.append((method, name))
        if method == "POST" and (name in self.there or self.faster):
            self.there.add(name)
            return 409, {"error_code": "ALREADY_EXISTS", "message": "exists"}
        if method == "GET" and name not in self.there:
            return 404, {"error_code": "NOT_FOUND", "message": f"{name} does not exist"}
        self.there.add(name)
        return 200, {"name": name}


@contextmanager
def serve(unity: Unity) -> Iterator[str]:
    """The URL of a server that answers so."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            status, told = unity.answer(self.command, self.path, body)
            text = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _reply

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
