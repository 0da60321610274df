"""`python -m bench.sheets PROMETHEUS_URL FOLDER [--minutes N]`: one sheet of pictures a dashboard.

Each panel's expressions are evaluated by Prometheus over the last minutes, and drawn as SVG: the
data of a real scrape, without Grafana. A panel without data says so.
"""

import argparse
import html
import json
import math
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).parents[1] / "charts" / "moorage" / "dashboards"
_VARIABLES = {"$job": ".*", "$tenant": ".*", "$channel": ".*", "$__rate_interval": "1m"}
_COLOURS = ("#3274d9", "#e0752d", "#508642", "#bf1b00", "#7d64b5", "#967302", "#2f575e", "#c15c17")
_COLUMN, _ROW = 50, 32  # pixels of Grafana's grid of 24 columns


def main() -> None:
    """Draw every dashboard."""
    parser = argparse.ArgumentParser(prog="bench.sheets", description=__doc__)
    parser.add_argument("prometheus")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=int, default=10)
    asked = parser.parse_args()
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text())
        panels = [_panel(asked.prometheus, panel, asked.minutes) for panel in dashboard["panels"]]
        height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"]) * _ROW
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{24 * _COLUMN}" height="{height}">'
        style = "<style>text{font:11px sans-serif}</style>"
        sheet = asked.folder / f"{path.stem}.svg"
        sheet.write_text("\n".join([head, style, *panels, "</svg>"]))
        print(sheet)


def _panel(prometheus: str, panel: dict[str, Any], minutes: int) -> str:
    grid = panel["gridPos"]
    x, y, w, h = (
        grid["x"] * _COLUMN, grid["y"] * _ROW, grid["w"] * _COLUMN - 8, grid["h"] * _ROW - 8
    )  # fmt: skip
    series = [one for target in panel["targets"] for one in _series(prometheus, target, minutes)]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    parts = [
        f'<g transform="translate({x},{y})"><rect width="{w}" height="{h}" fill="#fff" '
        f'stroke="#ccc"/><text x="6" y="15" font-weight="bold">{html.escape(panel["title"])}</text>'
    ]
    if not series:
        parts.append(f'<text x="6" y="{h / 2}" fill="#999">no data</text>')
    elif panel["type"] == "stat":
        for line, (name, points) in enumerate(series[:3]):
            shown = f"{name}: {_shown(points[-1][1], unit)}"
            parts.append(f'<text x="6" y="{40 + 18 * line}">{html.escape(shown)}</text>')
    else:
        parts += _lines(series, unit, w, h)
    return "\n".join([*parts, "</g>"])


def _series(
    prometheus: str, target: dict[str, Any], minutes: int
) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return name and points, time and value, of each series of an expression."""
    expression = target["expr"]
    for name, text in _VARIABLES.items():
        expression = expression.replace(name, text)
    end = time.time()
    query = {"query": expression, "start": end - 60 * minutes, "end": end, "step": minutes}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url) as answer:
        result = json.load(answer)["data"]["result"]
    named = []
    for one in result:
        name = target["legendFormat"]
        for label, value in one["metric"].items():
            name = name.replace("{{" + label + "}}", value)
        points = [(float(at), float(value)) for at, value in one["values"]]
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            named.append((name, points))
    return named


def _lines(
    series: list[tuple[str, list[tuple[float, float]]]], unit: str, w: int, h: int
) -> list[str]:
    """Return the graph of a panel: one line a series, its greatest value, and its legend."""
    top = max(value for _, points in series for _, value in points) or 1.0
    first = min(points[0][0] for _, points in series)
    last = max(points[-1][0] for _, points in series)
    left, upper, lower = 60, 26, h - 32
    parts = [
        f'<text x="4" y="{upper + 8}">{_shown(top, unit)}</text><text x="4" y="{lower}">0</text>',
        f'<path d="M{left} {lower}H{w - 8}" stroke="#ccc"/>',
    ]
    for number, (name, points) in enumerate(series[:8]):
        colour = _COLOURS[number % len(_COLOURS)]
        places = " ".join(
            f"{left + (at - first) / max(1.0, last - first) * (w - left - 8):.1f},"
            f"{lower - max(0.0, value) / top * (lower - upper):.1f}"
            for at, value in points
        )
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}"/>')
        place = f'x="{8 + number % 4 * (w // 4)}" y="{h - 18 + number // 4 * 12}"'
        parts.append(f'<text {place} fill="{colour}">{html.escape(name[:26])}</text>')
    return parts


def _shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.2%}"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{_symbol(unit)}"
    if 0 < abs(value) < 0.1 and unit == "s":
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} {_symbol(unit)}"


def _symbol(unit: str) -> str:
    return {"short": "", "reqps": "/s", "ops": "/s", "Bps": "B/s", "bytes": "B"}.get(unit, unit)


if __name__ == "__main__":
    main()
