"""Draws what Grafana would show, of a Prometheus: `python -m k8s.panel_pictures URL DASHBOARD FILE name=value ...`.

For the documentation, and to see the panels where there is no Grafana; names and values are the dashboard's variables.
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k8s.panels import DASHBOARDS

if TYPE_CHECKING:
    from k8s.panels import Dashboard, Panel

COLUMNS, POINTS, MOST_LINES = 3, 200, 12


def picture(url: str, dashboard: Dashboard, chosen: dict[str, str], minutes: float) -> bytes:
    """A PNG of all panels over the last minutes, as the API of Prometheus at `url` answers their queries."""
    import io

    import matplotlib.pyplot as plt

    rows = -(-len(dashboard.panels) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(16, 2.9 * rows), squeeze=False)
    end = time.time()
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, dashboard.panels, strict=False):
        axes.set_axis_on()
        _draw(axes, panel, url, chosen, (end - 60 * minutes, end))
    figure.suptitle(dashboard.title + ": " + ", ".join(chosen.values()))
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, dpi=90)
    plt.close(figure)
    return content.getvalue()


def _draw(axes: Any, panel: Panel, url: str, chosen: dict[str, str], span: tuple[float, float]) -> None:
    lines = 0
    for legend, query in panel.queries.items():
        filled = reduce(lambda text, item: text.replace(f"${item[0]}", item[1]), chosen.items(), query)
        asked = {"query": filled, "start": span[0], "end": span[1], "step": max(5, (span[1] - span[0]) / POINTS)}
        address = f"{url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            found = json.load(answer)["data"]["result"]
        for series in found:
            labels = series["metric"]
            text = re.sub(r"{{(\w+)}}", lambda match, labels=labels: labels.get(match[1], ""), legend)
            moments = [datetime.fromtimestamp(float(moment), UTC) for moment, _ in series["values"]]
            label = text if lines < MOST_LINES else None
            axes.plot(moments, [float(value) for _, value in series["values"]], label=label, linewidth=1.2)
            lines += 1
    axes.set_title(f"{panel.title} ({panel.unit})", fontsize=9)
    axes.tick_params(labelsize=6)
    axes.set_xlim(*(datetime.fromtimestamp(moment, UTC) for moment in span))
    if lines:
        axes.legend(fontsize=6, loc="upper left")
    else:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, fontsize=8)


def main() -> None:
    """Write the picture of a dashboard of the last hour."""
    url, name, file, *given = sys.argv[1:]
    chosen = dict(text.split("=", 1) for text in given)
    minutes = float(chosen.pop("minutes", 60))
    Path(file).write_bytes(picture(url.rstrip("/"), DASHBOARDS[name], chosen, minutes))


if __name__ == "__main__":
    main()
