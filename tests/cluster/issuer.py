"""Who signs callers' tokens: its keys, the server that has the public ones, and the certificate it is known by."""

from __future__ import annotations

import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import RSAAlgorithm
from jwt.utils import base64url_encode

KEY_ID = "first"
# Shows its public keys over HTTPS, and nothing else
PROGRAM = """
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
keys = open("/secret/jwks.json", "rb").read()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/jwks.json" else 404)
        self.end_headers()
        self.wfile.write(keys if self.path == "/jwks.json" else b"")
server = ThreadingHTTPServer(("", 8080), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/secret/tls.crt", "/secret/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"""


class Issuer:
    """Signs tokens for an audience; `host` is its server's."""

    def __init__(self, host: str, audience: str) -> None:
        self.host, self.audience = host, audience
        self.name, self.jwks = f"https://{host}", f"https://{host}/jwks.json"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public: dict[str, Any] = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self._keys = {"keys": [public | {"kid": KEY_ID, "alg": "RS256", "use": "sig"}]}
        self._server_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.certificate = self._certified()

    @property
    def secret(self) -> dict[str, str]:
        """What its server has: the public keys, and its own certificate."""
        own = self._server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {"jwks.json": json.dumps(self._keys), "tls.crt": self.certificate, "tls.key": own.decode()}

    def claims(self, **others: Any) -> dict[str, Any]:
        """Those of a good token, with others in their place; None leaves one out."""
        now = int(time.time())
        claims = {"iss": self.name, "aud": self.audience, "sub": "alice", "iat": now, "exp": now + 3600, **others}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, key: Any = None, algorithm: str = "RS256", **others: Any) -> str:
        """A token with its claims, signed with its own key or another one."""
        return jwt.encode(self.claims(**others), key or self.key, algorithm, headers={"kid": KEY_ID})

    def unsigned(self) -> str:
        """A token that says of itself that it needs no signature."""
        return jwt.encode(self.claims(), None, "none", headers={"kid": KEY_ID})

    def confused(self) -> str:
        """A token signed with what everybody knows, the public key, as if that were a secret that is shared."""
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        # PyJWT refuses to make one
        head = base64url_encode(json.dumps({"alg": "HS256", "kid": KEY_ID}).encode())
        signed = head + b"." + self.token().split(".")[1].encode()
        return (signed + b"." + base64url_encode(hmac.digest(public, signed, "sha256"))).decode()

    def _certified(self) -> str:
        """A certificate for its host that it has signed itself."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._server_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._server_key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()
