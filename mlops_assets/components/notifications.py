"""Tells people: a webhook, Slack's or one that understands the same, `{"text": ...}`, and an address of mail.

Both are secrets, since whoever has them can write there: they are in no log and no error. One that is away loses its
message, which the caller is told; the other one has it all the same.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import time
import urllib.request
from email.message import EmailMessage
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import HTTPRedirectHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

# A tick is about up to five failures and may take a minute, so one may take ten seconds
TIMEOUT_S = 3
ATTEMPTS = 3
WAIT_S = 0.5
BUSY = (429, 500, 502, 503, 504)


class People:
    """Who is told: a webhook, an address of mail, or both."""

    def __init__(self, webhook: SecretStr | None, mail: SecretStr | None) -> None:
        self._webhook, self._mail = webhook, mail

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self._webhook or self._mail)

    def tell(self, text: str) -> list[str]:
        """Send a text, whose first line is what mail has as its subject; why it was not taken, of each who did not.

        It raises nothing: who tells of something would tell the others of it again at each tick.
        """
        # Errors can hold names of files that are no text
        return list(filter(None, self._refusals(text.encode(errors="replace").decode())))

    def _refusals(self, text: str) -> Iterator[str | None]:
        if self._webhook:
            yield post(self._webhook, text)
        if self._mail:
            yield send(self._mail, text)


def post(webhook: SecretStr, text: str) -> str | None:
    """Send a text to a webhook, in up to three attempts; why it was not taken, or None."""
    body, headers = json.dumps({"text": _escaped(text)}).encode(), {"Content-Type": "application/json"}
    refused = None
    for attempt in range(ATTEMPTS):
        time.sleep(attempt * WAIT_S)
        try:
            # Not requests: urllib3 writes the address into its log, also at a warning when it tries again
            request = urllib.request.Request(webhook.get_secret_value(), body, headers)
            with OPENER.open(request, timeout=TIMEOUT_S):
                return None
        except HTTPError as error:
            refused = f"the webhook answers {error.code}; look whether MLOPS_ALERT_WEBHOOK is right"
            if error.code not in BUSY:
                break
        except (OSError, HTTPException, ValueError) as error:
            # Some say the address
            refused = f"the webhook cannot be reached ({type(error).__name__})"
    return refused


def send(mail: SecretStr, text: str) -> str | None:
    """Send a text by mail, in one attempt; why it was not taken, or None.

    `mail` is as MLOPS_ALERT_MAIL has it: smtps://user:password@host:465/?from=...&to=...,... With smtp:// the server is
    asked for TLS before the password is sent.
    """
    try:
        place = urlsplit(mail.get_secret_value())
        message = _message(text, parse_qs(place.query))
        with _connection(place.scheme, place.hostname or "", place.port) as server:
            if place.username:
                server.login(unquote(place.username), unquote(place.password or ""))
            server.send_message(message)
    except smtplib.SMTPAuthenticationError:
        return "the mail server refuses the login of MLOPS_ALERT_MAIL"
    except (OSError, smtplib.SMTPException, ValueError) as error:  # the last of what no header, port or login can hold
        return f"the mail server did not take it ({type(error).__name__}); look whether MLOPS_ALERT_MAIL is right"
    return None


def _message(text: str, fields: dict[str, list[str]]) -> EmailMessage:
    message = EmailMessage()
    subject, _, body = text.partition("\n")
    message["Subject"] = " ".join(subject.splitlines())
    message["From"], message["To"] = fields["from"][0], fields["to"][0]
    message.set_content(body or text)
    return message


def _connection(scheme: str, host: str, port: int | None) -> smtplib.SMTP:
    safe = ssl.create_default_context()
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT_S, context=safe)
    server = smtplib.SMTP(host, port or 587, timeout=TIMEOUT_S)
    server.ehlo_or_helo_if_needed()
    # One of this machine needs none
    if server.has_extn("starttls") or host not in ("localhost", "127.0.0.1"):
        server.starttls(context=safe)
    return server


class _NoRedirects(HTTPRedirectHandler):
    """After a redirection the message would be a GET."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Every redirection is an HTTPError."""


OPENER = urllib.request.build_opener(_NoRedirects)


def _escaped(text: str) -> str:
    """Text that mentions nobody; https://docs.slack.dev/messaging/formatting-message-text#escaping"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
