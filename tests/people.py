"""Who is told in tests: an HTTP server that is a webhook, and one that takes mail."""

from __future__ import annotations

import json
import socketserver
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr

PATH = "/services/T0/B0/kept-secret"


class Webhook:
    """An HTTP server that answers with the given codes, then with 200, and keeps what it is told."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.told: list[Any] = []
        self.headers: dict[str, str] = {}
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.told.append(json.loads(body))
                self.send_response(webhook.codes.pop(0) if webhook.codes else 200)
                for name, value in webhook.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = SecretStr(f"http://127.0.0.1:{self.server.server_port}{PATH}")

    @property
    def texts(self) -> list[str]:
        return [told["text"] for told in self.told]


class MailServer:
    """A mail server of this machine, without TLS; it answers MAIL with `answer`, and keeps what it is given."""

    def __init__(self, answer: str = "250 ok") -> None:
        self.answer, self.given = answer, list[EmailMessage]()
        mail = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.say("220 here")
                while line := self.rfile.readline().decode().strip():
                    match line.upper().split(" ")[0]:
                        case "DATA":
                            self.say("354 go on")
                            mail.given.append(self.message())
                            self.say("250 ok")
                        case "EHLO":
                            self.say("250-here")
                            self.say("250 AUTH PLAIN")
                        case "AUTH":
                            self.say("235 ok")
                        case "MAIL":
                            self.say(mail.answer)
                        case "QUIT":
                            self.say("221 bye")
                            return
                        case _:
                            self.say("250 ok")

            def message(self) -> EmailMessage:
                lines = list(iter(self.rfile.readline, b".\r\n"))
                return message_from_bytes(b"".join(lines), policy=default)

            def say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        port = self.server.server_address[1]
        self.address = SecretStr(f"smtp://127.0.0.1:{port}/?from=mlops@example.com&to=ann@example.com,ben@example.com")
