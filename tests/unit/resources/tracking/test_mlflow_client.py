"""What a client of MLflow sends; in a process of its own, since MLflow finds its plugins once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points

ASK = """
import sys
from resources.tracking.mlflow_client import mlflow_client
mlflow_client(sys.argv[1]).search_experiments()
mlflow_client(sys.argv[1]).search_registered_models()
assert "feast" not in sys.modules
"""


def test_it_does_not_load_feast_and_sends_no_header_of_its() -> None:
    seen = list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.extend(name.lower() for name in self.headers)
            self.answer()

        def do_POST(self) -> None:
            seen.extend(name.lower() for name in self.headers)
            self.rfile.read(int(self.headers["content-length"]))
            self.answer()

        def answer(self) -> None:
            body = json.dumps({}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:
            pass

    assert [one.value for one in entry_points(group="mlflow.request_header_provider") if "feast" in one.value]
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        subprocess.run([sys.executable, "-c", ASK, url], check=True)
        server.shutdown()
    assert "user-agent" in seen
    assert "authorization" not in seen
