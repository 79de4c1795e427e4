"""People are told by a webhook and by mail, real servers here, which may be away, slow or rude."""

from __future__ import annotations

import threading

import pytest
from pydantic import SecretStr

from mlops_assets.components import notifications
from mlops_assets.components.notifications import People, post, send
from tests.people import PATH, MailServer, Webhook


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_webhook_is_asked_again(webhook: Webhook, code: int) -> None:
    webhook.codes, webhook.headers = [code, code], {"Retry-After": "600"}
    assert post(webhook.address, "hello") is None
    assert webhook.texts == ["hello"] * 3


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([404], "answers 404; look whether MLOPS_ALERT_WEBHOOK is right"),
        ([302], "answers 302"),
        ([503] * 9, "answers 503"),
    ],
)
def test_a_webhook_that_refuses_is_told_by_its_answer(webhook: Webhook, codes: list[int], message: str) -> None:
    webhook.codes, webhook.headers = codes, {"Location": "/elsewhere"}
    refused = post(webhook.address, "hello")
    assert refused is not None
    assert message in refused
    assert PATH not in refused


def test_a_webhook_that_hangs_is_left_alone(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "TIMEOUT_S", 0.05)
    webhook.server.shutdown()  # it takes connections, and answers none
    assert "cannot be reached" in (post(webhook.address, "hello") or "")


def test_mail_has_the_first_line_as_its_subject(mail: MailServer) -> None:
    assert send(mail.address, "Drift of iris\nscore 0.75 & more, at most 0.3") is None
    [given] = mail.given
    assert (given["Subject"], given["From"]) == ("Drift of iris", "mlops@example.com")
    assert given["To"] == "ann@example.com, ben@example.com"
    assert given.get_content().strip() == "score 0.75 & more, at most 0.3"


def test_a_mail_server_that_refuses_is_told_without_its_address(mail: MailServer) -> None:
    mail.answer = "550 nobody of this name"
    assert send(mail.address, "hello") == (
        "the mail server did not take it (SMTPSenderRefused); look whether MLOPS_ALERT_MAIL is right"
    )
    away = SecretStr("smtps://me:kept-secret@127.0.0.1:1/?from=a@example.com&to=b@example.com")
    refused = send(away, "hello")
    assert refused is not None
    assert "kept-secret" not in refused


def test_a_password_is_not_sent_in_the_open() -> None:
    """A server elsewhere that knows no TLS gets nothing."""
    refuses = MailServer()
    threading.Thread(target=refuses.server.serve_forever, daemon=True).start()
    port = refuses.server.server_address[1]
    # The name of this machine, which is none of those that need no TLS
    place = SecretStr(f"smtp://me:kept-secret@127.0.0.2:{port}/?from=a@example.com&to=b@example.com")
    assert "did not take it" in (send(place, "hello") or "")
    assert refuses.given == []
    refuses.server.shutdown()
    refuses.server.server_close()


def test_who_is_away_keeps_nobody_else_from_being_told(webhook: Webhook, mail: MailServer) -> None:
    assert not People(None, None)
    people = People(SecretStr("http://127.0.0.1:1"), mail.address)
    assert people.tell("hello") == ["the webhook cannot be reached (URLError)"]
    assert People(webhook.address, mail.address).tell("hello") == []
    assert (len(mail.given), webhook.texts) == (2, ["hello"])


@pytest.mark.parametrize("text", ["Drift of iris\rBcc: eve@example.com\nscore 0.75", "\udcff.csv is away\nno \udcff"])
def test_a_text_of_any_letters_is_sent_and_is_no_header(mail: MailServer, webhook: Webhook, text: str) -> None:
    assert People(webhook.address, mail.address).tell(text) == []
    [given] = mail.given
    assert given["Bcc"] is None
    assert len(webhook.texts) == 1


@pytest.mark.parametrize(
    "address",
    [
        "smtp://me:k%C3%A4pt-secret@127.0.0.1:{port}/?from=a@example.com&to=b@example.com",
        "smtp://me:kept-secret@127.0.0.1:99999/?from=a@example.com&to=b@example.com",
        "smtp://127.0.0.1:{port}/?from=a@example.com%0ABcc:c@example.com&to=b@example.com",
    ],
    ids=["password", "port", "sender"],
)
def test_an_address_of_mail_that_cannot_be_used_is_told_and_raises_nothing(mail: MailServer, address: str) -> None:
    made = SecretStr(address.format(port=mail.server.server_address[1]))
    [refused] = People(None, made).tell("Drift of iris\nscore 0.75")
    assert refused.startswith("the mail server did not take it (")
    assert "secret" not in refused
    assert mail.given == []
