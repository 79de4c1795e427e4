"""Tells a webhook of runs that fail: Slack's, or one that understands the same, `{"text": ...}`.

The address is a secret, since whoever has it can write there: it is in no log and no error.
"""

from __future__ import annotations

import json
import time
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler

import dagster as dg

if TYPE_CHECKING:
    from pydantic import SecretStr

SENSOR = "tell_of_failed_runs"
# A tick is about up to five failures and may take a minute, so one may take ten seconds
TIMEOUT_S = 3
ATTEMPTS = 3
WAIT_S = 0.5
BUSY = (429, 500, 502, 503, 504)
STEPS = 5
ERROR_CHARACTERS = 300


def tell_of_failed_runs(webhook: SecretStr, namespace: str | None) -> dg.SensorDefinition:
    """The sensor that sends a message for each run of this code location that fails.

    A webhook that is away loses its message, which the log of the tick then tells; runs and the sensor go on.
    """

    @dg.run_failure_sensor(
        name=SENSOR,
        description="Tells the webhook of MLOPS_ALERT_WEBHOOK of runs that fail",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.RunFailureSensorContext) -> None:
        refused = post(webhook, message(context, namespace))
        if refused:
            context.log.warning(f"The failure of run {context.dagster_run.run_id} was not told: {refused}")

    return sensor


def message(context: dg.RunFailureSensorContext, namespace: str | None) -> str:
    """Which run failed, and of its first steps that failed the first line of each error."""
    run = context.dagster_run
    place = f" in {namespace}" if namespace else ""
    lines = [f"Run {run.run_id} of job {run.job_name}{place} failed"]
    failed = context.get_step_failure_events()
    lines += [f"{event.step_key}: {_cause(event.step_failure_data)}" for event in failed[:STEPS]]
    if len(failed) > STEPS:
        lines.append(f"and {len(failed) - STEPS} more steps")
    if not failed:
        # Such as a worker that died too often, or did not start
        lines.append(_first_line(context.failure_event.message or ""))
    return "\n".join(_escaped(line) for line in lines)


def post(webhook: SecretStr, text: str) -> str | None:
    """Send a text to a webhook, in up to three attempts; why it was not taken, or None."""
    body, headers = json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
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


class _NoRedirects(HTTPRedirectHandler):
    """After a redirection the message would be a GET."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Every redirection is an HTTPError."""


OPENER = urllib.request.build_opener(_NoRedirects)


def _cause(failure: Any) -> str:
    """What the author of a step, or of this platform, said last."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return _first_line(failure.user_failure_data.description)
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return _first_line(error.message) if error is not None else "no error was recorded"


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= ERROR_CHARACTERS else f"{line[: ERROR_CHARACTERS - 3]}..."


def _escaped(text: str) -> str:
    """Text that mentions nobody; https://docs.slack.dev/messaging/formatting-message-text#escaping"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
