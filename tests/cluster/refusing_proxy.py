"""A proxy before the API server that answers each kind of call once or twice as one does that is overloaded.

Pods come to it by KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, with their own tokens, over TLS: its certificate
is signed by the cluster's authority, as a kubelet's is.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import json
import secrets
import ssl
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.faults import api_server
from tests.cluster.kubectl import create, kubectl
from tests.cluster.waiting import SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGNER = "kubernetes.io/kubelet-serving"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
READ_BYTES = 65536


class RefusingProxy(ThreadingHTTPServer):
    """Hands calls on to the API server, and answers 503 to some of them.

    A call is a method and a path. The first of a kind is not handed on; of one that changes something the second is
    done, and its answer is lost. `refused` counts them; `made` has all that was created, by kind and name.
    """

    daemon_threads = True

    def __init__(self, address: str, upstream: tuple[str, int], authority: str) -> None:
        super().__init__((address, 0), Handler)
        self.upstream, self.authority = upstream, ssl.create_default_context(cadata=authority)
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.made: list[tuple[str, str]] = []

    @property
    def variables(self) -> list[dict[str, str]]:
        """What brings a pod here."""
        host, port = self.server_address[:2]
        return [
            {"name": "KUBERNETES_SERVICE_HOST", "value": str(host)},
            {"name": "KUBERNETES_SERVICE_PORT", "value": str(port)},
        ]


class Handler(BaseHTTPRequestHandler):
    """Every method is handled alike."""

    protocol_version = "HTTP/1.1"
    server: RefusingProxy  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle_method(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = f"{self.command} {urlsplit(self.path).path}"
        with self.server.lock:
            self.server.seen[call] += 1
            time = self.server.seen[call]
        if time == 1:
            self.refuse(call)
            return
        connection = http.client.HTTPSConnection(*self.server.upstream, context=self.server.authority)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP | {"host"}}
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            if self.command == "GET":
                self.hand_on(answer)
                return
            content = answer.read()
            if self.command == "POST" and answer.status < 300:
                made = json.loads(content)
                self.server.made.append((made["kind"], made["metadata"].get("name", "")))
            if time == 2:
                self.refuse(call)
            else:
                self.answer(answer.status, content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_method  # noqa: N815 - names of the standard library

    def refuse(self, call: str) -> None:
        with self.server.lock:
            self.server.refused[call] += 1
        self.answer(503, json.dumps({"kind": "Status", "message": "the server is overloaded", "code": 503}).encode())

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def hand_on(self, answer: http.client.HTTPResponse) -> None:
        """In pieces as they come: a log that is followed ends much later."""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while piece := answer.read1(READ_BYTES):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """pytest shows what the test asserts."""


@contextlib.contextmanager
def refusing_proxy(folder: Path) -> Iterator[RefusingProxy]:
    """The proxy beside the API server; its certificate and key are written into a folder."""
    address, port = api_server()
    authority = kubectl("get", "configmap", "kube-root-ca.crt", "-n", "kube-system", "-o", r"jsonpath={.data.ca\.crt}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(address, folder))
    server = RefusingProxy(address, (address, port), authority)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def certificate(address: str, folder: Path) -> tuple[Path, Path]:
    """A certificate for an address, signed by the cluster, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"refusing-proxy-{secrets.token_hex(3)}"
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
    ]
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    wanted = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject)).add_extension(alternative, False)
    request = wanted.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    spec = {
        "request": base64.b64encode(request).decode(),
        "signerName": SIGNER,
        "usages": ["digital signature", "server auth"],
        "expirationSeconds": 3600,
    }
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    create(kind | {"metadata": {"name": name}, "spec": spec})
    try:
        kubectl("certificate", "approve", name)
        path = ("get", "csr", name, "-o", "jsonpath={.status.certificate}")
        signed = base64.b64decode(wait_until(lambda: kubectl(*path), SOON_S, "the certificate is signed"))
    finally:
        kubectl("delete", "csr", name)
    files = folder / "tls.crt", folder / "tls.key"
    files[0].write_bytes(signed)
    plain = serialization.NoEncryption()
    files[1].touch(mode=0o600)
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files
