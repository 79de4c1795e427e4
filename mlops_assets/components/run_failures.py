"""Tells people of runs that fail: of errors, of gates and of roll-outs that end in `rolled back`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from mlops_assets.components.notifications import People

SENSOR = "tell_of_failed_runs"
STEPS = 5
ERROR_CHARACTERS = 300


def tell_of_failed_runs(people: People, namespace: str | None) -> dg.SensorDefinition:
    """The sensor that sends a message for each run of this code location that fails.

    Who is away loses the message, which the log of the tick then tells; runs and the sensor go on.
    """

    @dg.run_failure_sensor(
        name=SENSOR,
        description="Tells those of MLOPS_ALERT_WEBHOOK and MLOPS_ALERT_MAIL of runs that fail",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.RunFailureSensorContext) -> None:
        for refused in people.tell(message(context, namespace)):
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
    return "\n".join(lines)


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
