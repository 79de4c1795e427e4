"""A small Kubernetes API server over real HTTP, whose answers can be refused or lost, for tests of its clients."""

from __future__ import annotations

import copy
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class ApiServer(ThreadingHTTPServer):
    """Keeps objects by path. The next answers are `faults`: a status, or "lost" for what is done and not answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, dict[str, Any]] = {}
        self.applied: dict[tuple[str, str], dict[str, Any]] = {}
        self.faults: list[int | str | None] = []
        self.requests: list[str] = []
        self.paths: list[str] = []
        self.logs: dict[str, bytes | tuple[int, str]] = {}
        """What pods have written, or the status and message with which it is refused."""
        self.connections = 0

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True


class Handler(BaseHTTPRequestHandler):
    """Create, read, replace, apply and delete, as the Kubernetes API answers them."""

    protocol_version = "HTTP/1.1"
    server: ApiServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle_method(self) -> None:
        self.server.requests.append(self.command)
        self.server.paths.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self.answer(fault, {"message": "not now"})
            return
        if log := re.search(r"/pods/([^/]+)/log\?", self.path):
            self.answer_log(self.server.logs.get(log[1], (404, f'pods "{log[1]}" not found')))
            return
        status, found = self.apply(body)
        if fault == "lost":
            self.close_connection = True
            return
        self.answer(status, found)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_method  # noqa: N815 - names of the standard library

    def apply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        address = urlsplit(self.path)
        objects, path = self.server.objects, address.path.removesuffix("/status")
        if self.command == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in objects:
                return 409, {"message": "already exists"}
            objects[path] = body | {"metadata": body["metadata"] | {"resourceVersion": "1"}}
            return 201, objects[path]
        if self.command == "GET" and path.rpartition("/")[2].endswith("s") and path not in objects:
            selector = parse_qs(address.query).get("labelSelector", [""])[0]
            found = [item for name, item in objects.items() if name.rpartition("/")[0] == path]
            return 200, {"items": [item for item in found if selected(selector, item["metadata"].get("labels", {}))]}
        if self.command == "PATCH":
            return self.apply_server_side(path, body, parse_qs(address.query)["fieldManager"][0])
        if path not in objects:
            return 404, {"message": "not found"}
        if self.command == "PUT":
            known = objects[path]["metadata"]["resourceVersion"]
            if body["metadata"]["resourceVersion"] != known:
                return 409, {"message": "the object has been modified"}
            objects[path] = body | {"metadata": body["metadata"] | {"resourceVersion": str(int(known) + 1)}}
        if self.command == "DELETE":
            return 200, objects.pop(path)
        return 200, objects[path]

    def apply_server_side(self, path: str, body: dict[str, Any], manager: str) -> tuple[int, dict[str, Any]]:
        """What a manager applies takes its fields, and gives up those that it has applied before and has no more."""
        assert self.headers["Content-Type"] == "application/apply-patch+yaml"
        objects, applied = self.server.objects, self.server.applied
        present = objects.get(path, {"metadata": {}})
        known = present["metadata"].get("resourceVersion", "0")
        if body["metadata"].pop("resourceVersion", known) != known:
            return 409, {"message": "the object has been modified"}
        found = merged(without(present, applied.get((path, manager), {}), body), copy.deepcopy(body))
        applied[path, manager] = body
        found["metadata"]["resourceVersion"] = str(int(known) + (found != present))
        objects[path] = found
        return 200, objects[path]

    def answer_log(self, log: bytes | tuple[int, str]) -> None:
        if isinstance(log, bytes):
            self.send(200, log, "text/plain")
        else:
            self.answer(log[0], {"message": log[1]})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        self.send(status, json.dumps(body).encode(), "application/json")

    def send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def without(present: Any, before: Any, now: Any) -> Any:
    """An object without what was applied before and is not any more; a list is one value."""
    if not (isinstance(present, dict) and isinstance(before, dict) and isinstance(now, dict)):
        return present
    return {
        key: without(value, before.get(key), now.get(key))
        for key, value in present.items()
        if key in now or key not in before
    }


def merged(present: Any, applied: Any) -> Any:
    """An object with what is applied to it."""
    if not (isinstance(present, dict) and isinstance(applied, dict)):
        return applied
    return present | {key: merged(present.get(key), value) for key, value in applied.items()}


def selected(selector: str, labels: dict[str, str]) -> bool:
    """Whether a label selector of `a`, `a=b` and `a in (b, c)` finds these labels."""
    for part in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        name, _, value = part.replace(" in ", "=").partition("=")
        if "=" not in part and " in " not in part:
            if name.strip() not in labels:
                return False
        elif labels.get(name.strip()) not in [choice.strip() for choice in value.strip("() ").split(",")]:
            return False
    return True
