"""The model card: what a model is for and how good it is, on one page (Mitchell et al., Model Cards, 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.ml.evaluation.metrics import OF_THE_POSITIVE, shown
from mlops_assets.ml.foreign_text import as_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_assets.ml.evaluation.evaluate import EvaluationReport


def model_card(model: str, description: str, owners: Sequence[str], report: EvaluationReport) -> str:
    """The card as Markdown."""
    lines = [f"# {model}", "", description or "No description.", ""]
    lines += [f"- task: {report.task.replace('_', ' ')}", f"- owners: {', '.join(owners) or 'none'}"]
    if report.classes:
        lines.append(f"- classes: {', '.join(map(as_markdown, report.classes))}")
    if report.positive is not None:
        lines.append(f"- positive class: {as_markdown(report.positive)} ({', '.join(OF_THE_POSITIVE)} are about it)")
    lines += ["", f"## On {report.rows:,} held-out rows", "", "| metric | value |", "|---|---|"]
    lines += [f"| {name} | {shown(value)} |" for name, value in report.metrics.items()]
    ranked = sorted(report.importance.items(), key=lambda item: -item[1])
    lines += ["", "## What it looks at", "", "| column | loss when shuffled |", "|---|---|"]
    lines += [f"| {name} | {value:+.4f} |" for name, value in ranked]
    weakest = _weakest(report)
    if weakest:
        lines += ["", "## Where it is weakest", "", *weakest]
    return "\n".join(lines) + "\n"


def _weakest(report: EvaluationReport) -> list[str]:
    """The three slices with the largest loss."""
    measure = "rmse" if report.task == "regression" else "log_loss"
    worst = sorted(report.slices, key=lambda part: -part.metrics[measure])[:3]
    return [
        f"- {as_markdown(f'{part.column} = {part.value}')}: "
        f"{measure} {shown(part.metrics[measure])} on {part.rows:,} rows"
        for part in worst
    ]
