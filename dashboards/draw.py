#!/usr/bin/env python3
"""Draws a board from Prometheus' numbers, without Grafana.

    python3 draw.py switchboard-overview.json http://127.0.0.1:9090 board.png --minutes 5

It asks what the board's panels ask, for all jobs, instances and classes, and lays the answers out as the board does. It
knows the kinds of panels that the boards here have. Needs matplotlib.
"""

import argparse
import datetime
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

CELL, LINE, GAP = 62, 38, 8  # pixels: how wide and high one place of the board's grid is, and what is between panels
PAGE, PANEL, TEXT, FAINT, EDGE = "#111217", "#181b1f", "#d8d9da", "#8e9297", "#2c3038"
COLORS = {"green": "#3f8f4f", "orange": "#c9792b", "red": "#b93a3a", "blue": "#3566a8"}
LINES = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffb357", "#96d98d", "#c0d8ff"]


class Prometheus:
    """Where the numbers come from, and the stretch of time that is asked for."""

    def __init__(self, address, end, minutes, scrape):
        self.address, self.end, self.start = address.rstrip("/"), end, end - minutes * 60
        self.step = max(scrape, minutes * 60 / 300)
        # As Grafana has them.
        window = max(self.step + scrape, 4 * scrape)
        self.chosen = {"__rate_interval": f"{window:.0f}s", "__range": f"{minutes * 60:.0f}s"}

    def get(self, path, **what):
        query = urllib.parse.urlencode(what, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{query}") as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{what}: {json.load(error)['error']}") from error

    def choose(self, variables):
        """Chooses all of each variable, as Grafana does when one opens a board."""
        for variable in variables:
            if variable["type"] != "query":
                continue
            query = self.fill(variable["query"]["query"])
            selector, label = query.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            values = self.get(f"label/{label}/values", **{"match[]": selector, "start": self.start, "end": self.end})
            self.chosen[variable["name"]] = variable.get("allValue") or f"({'|'.join(values)})"

    def fill(self, text):
        for name, value in self.chosen.items():
            text = text.replace(f"${name}", value)
        return text

    def over_time(self, target):
        """(name, times, values) of each series."""
        answer = self.get(
            "query_range", query=self.fill(target["expr"]), start=self.start, end=self.end, step=self.step
        )
        return [self.series(target, one) for one in answer["result"]]

    def now(self, target):
        return self.get("query", query=self.fill(target["expr"]), time=self.end)["result"]

    def series(self, target, one):
        name = target.get("legendFormat", "")
        for label, value in one["metric"].items():
            name = name.replace(f"{{{{{label}}}}}", value)
        # A label that a series does not have.
        while "{{" in name:
            name = name[: name.index("{{")] + name[name.index("}}") + 2 :]
        times, values, last = [], [], None
        for at, value in one["values"]:
            # Where there was nothing, nothing is drawn.
            if last is not None and at - last > 1.5 * self.step:
                times.append(last + self.step)
                values.append(math.nan)
            times.append(at)
            values.append(float(value))
            last = at
        return name.strip() or "all", [datetime.datetime.fromtimestamp(at) for at in times], values


def shown(value, unit):
    """A number as Grafana writes it."""
    if value is None or math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        steps = [(1e-6, "ns", 1e-9), (1e-3, "µs", 1e-6), (1, "ms", 1e-3), (100, "s", 1), (6000, "min", 60)]
        for below, name, one in steps:
            if abs(value) < below:
                return "0 s" if value == 0 else f"{value / one:.3g} {name}"
        return f"{value / 3600:.3g} h"
    base, names = (1024, ["B", "KiB", "MiB", "GiB"]) if unit == "bytes" else (1000, ["", "K", "M", "G"])
    power = 0
    while abs(value) >= base and power < 3:
        value, power = value / base, power + 1
    after = {"cps": " /s", "Bps": "B/s"}.get(unit, "")
    between = " " if names[power] and unit in ("bytes", "Bps") else ""
    return f"{value:.3g}{between}{names[power]}{after}"


def color_of(value, thresholds):
    color = "blue"
    for step in thresholds["steps"]:
        if step["value"] is None or (value is not None and value >= step["value"]):
            color = step["color"]
    return COLORS[color]


class Canvas:
    """The picture, on which places are given in pixels from the top left."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.figure = plt.figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAGE)

    def text(self, x, y, text, **style):
        style = {"color": TEXT, "fontsize": 8, "va": "top", **style}
        self.figure.text(x / self.width, 1 - y / self.height, text, **style)

    def box(self, x, y, w, h, color):
        place = (x / self.width, 1 - (y + h) / self.height)
        box = FancyBboxPatch(
            place,
            w / self.width,
            h / self.height,
            boxstyle="square,pad=0",
            facecolor=color,
            edgecolor=EDGE,
            linewidth=0.6,
            transform=self.figure.transFigure,
            zorder=-1,
        )
        self.figure.add_artist(box)

    def axes(self, x, y, w, h):
        place = (x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height)
        axes = self.figure.add_axes(place, facecolor="none")
        axes.tick_params(colors=FAINT, labelsize=6.5, length=0, pad=3)
        for side in axes.spines.values():
            side.set_visible(False)
        return axes

    def over_time(self, x, y, w, h, prometheus):
        axes = self.axes(x, y, w, h)
        axes.set_xlim(*(datetime.datetime.fromtimestamp(at) for at in (prometheus.start, prometheus.end)))
        axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(minticks=3, maxticks=6))
        axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M:%S"))
        axes.grid(color=EDGE, linewidth=0.5)
        axes.set_axisbelow(True)
        return axes


def draw_stat(canvas, prometheus, panel, x, y, w, h):
    defaults = panel["fieldConfig"]["defaults"]
    series = prometheus.over_time(panel["targets"][0])
    values = [value for value in series[0][2] if not math.isnan(value)] if series else []
    value = values[-1] if values else None
    canvas.box(x, y, w, h, color_of(value, defaults["thresholds"]))
    if values:
        axes = canvas.axes(x, y + h * 0.6, w, h * 0.4)
        axes.set_axis_off()
        axes.fill_between(range(len(values)), values, color="white", alpha=0.16, linewidth=0)
        axes.set_ylim(0, max(max(values) * 1.1, 1e-9))
        axes.set_xlim(0, max(len(values) - 1, 1))
    text = shown(value, defaults["unit"]) if values else defaults.get("noValue", "No data")
    canvas.text(x + 8, y + 7, panel["title"], fontsize=7.5, color="white")
    canvas.text(x + w / 2, y + h * 0.56, text, fontsize=20, color="white", ha="center", va="center", weight="bold")


def draw_lines(canvas, prometheus, panel, x, y, w, h):
    defaults = panel["fieldConfig"]["defaults"]
    unit, custom = defaults["unit"], defaults["custom"]
    series = [one for target in panel["targets"] for one in prometheus.over_time(target)]
    axes = canvas.over_time(x + 58, y + 32, w - 72, h - 92, prometheus)
    floor = {}
    for n, (_, times, values) in enumerate(series):
        color = LINES[n % len(LINES)]
        if custom["stacking"]["mode"] == "normal":
            below = [floor.get(at, 0) for at in times]
            values = [under + value for under, value in zip(below, values)]
            axes.fill_between(times, below, values, color=color, alpha=0.3, linewidth=0)
            axes.plot(times, values, color=color, linewidth=1)
            floor.update((at, value) for at, value in zip(times, values) if not math.isnan(value))
        else:
            axes.fill_between(times, values, color=color, alpha=0.07, linewidth=0)
            axes.plot(times, values, color=color, linewidth=1)
    top = max([axes.get_ylim()[1], 1e-6])
    if all(value == 0 or math.isnan(value) for _, _, values in series for value in values):
        top = 1
    axes.set_ylim(defaults.get("min", 0), max(top, 1) if defaults.get("max") == 1 and top > 0.5 else top)
    if unit == "short" and top < 6:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    elif unit == "bytes":
        axes.yaxis.set_major_locator(MultipleLocator(2 ** math.ceil(math.log2(max(top, 4) / 5))))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    mark = next((s["value"] for s in defaults.get("thresholds", {}).get("steps", []) if s["value"]), None)
    if mark is not None and mark <= axes.get_ylim()[1]:
        axes.axhline(mark, color="#f2495c", linewidth=0.8, linestyle=(0, (5, 4)))
    if not series:
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, color=FAINT, ha="center", va="center", fontsize=9)
    draw_legend(canvas, [name for name, _, _ in series], x + 12, y + h - 38, w - 24)


def draw_legend(canvas, names, x, y, w):
    """What fits in two lines."""
    left, line = x, 0
    for n, name in enumerate(names):
        name = name if len(name) <= 30 else name[:29] + "…"
        wide = 18 + 5.6 * len(name) + 8
        more = 18 + 48
        if left + wide + (more if line == 1 and n + 1 < len(names) else 0) > x + w:
            if line == 1:
                canvas.text(left, y + 17, f"and {len(names) - n} more", fontsize=6.8, color=FAINT)
                return
            left, line = x, 1
        place = y + 17 * line
        canvas.box(left, place + 5, 11, 2, LINES[n % len(LINES)])
        canvas.text(left + 16, place, name, fontsize=6.8)
        left += wide


def draw_states(canvas, prometheus, panel, x, y, w, h):
    options = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    series = sorted(prometheus.over_time(panel["targets"][0]), reverse=True)
    axes = canvas.over_time(x + 128, y + 32, w - 142, h - 56, prometheus)
    axes.grid(False)
    for row, (_, times, values) in enumerate(series):
        begin = 0
        for n in range(1, len(values) + 1):
            if n == len(values) or values[n] != values[begin]:
                end = times[n] if n < len(values) else times[-1]
                if not math.isnan(values[begin]):
                    look = options.get(f"{values[begin]:.0f}", {"color": "blue", "text": ""})
                    axes.barh(row, end - times[begin], left=times[begin], height=0.72, color=COLORS[look["color"]])
                begin = n
    axes.set_yticks(range(len(series)), [name for name, _, _ in series])
    axes.set_ylim(-0.6, max(len(series), 1) - 0.4)


def draw_table(canvas, prometheus, panel, x, y, w, h):
    organize = panel["transformations"][0]["options"]
    unit, column = panel["fieldConfig"]["defaults"]["unit"], organize["renameByName"]["Value"]
    found = sorted(prometheus.now(panel["targets"][0]), key=lambda one: -float(one["value"][1]))
    labels = sorted({label for one in found for label in one["metric"]} - set(organize["excludeByName"]))
    wide = (w - 24) / (len(labels) + 1)
    for n, heading in enumerate([*labels, column]):
        canvas.text(x + 12 + n * wide, y + 34, heading, fontsize=7, color="#6e9fff")
    for row, one in enumerate(found[: int((h - 64) // 21)]):
        cells = [*(one["metric"].get(label, "") for label in labels), shown(float(one["value"][1]), unit)]
        for n, cell in enumerate(cells):
            canvas.text(x + 12 + n * wide, y + 57 + row * 21, cell[: int(wide / 6)], fontsize=7.5)


def draw_heat(canvas, prometheus, panel, x, y, w, h):
    def bound(name):
        return math.inf if name == "+Inf" else float(name)

    series = sorted(prometheus.over_time(panel["targets"][0]), key=lambda one: bound(one[0]))
    axes = canvas.over_time(x + 58, y + 32, w - 72, h - 56, prometheus)
    if not series:
        return
    times = series[0][1]
    rows, below = [], [0.0] * len(times)
    for _, _, values in series:
        rows.append([max(now - under, 0) ** 0.5 for now, under in zip(values, below)])
        below = values
    axes.pcolormesh(times, range(len(rows)), rows, cmap="inferno", shading="nearest", rasterized=True)
    labels = [name if name == "+Inf" else shown(bound(name), "s") for name, _, _ in series]
    axes.set_yticks(range(0, len(rows), 3), labels[::3])
    axes.grid(False)


KINDS = {
    "stat": draw_stat,
    "timeseries": draw_lines,
    "state-timeline": draw_states,
    "table": draw_table,
    "heatmap": draw_heat,
}


def main():
    options = argparse.ArgumentParser(description="Draws a board from Prometheus' numbers, without Grafana.")
    options.add_argument("board", help="its JSON")
    options.add_argument("prometheus", help="its address, such as http://127.0.0.1:9090")
    options.add_argument("picture", help="the PNG file to write")
    options.add_argument("--minutes", type=float, default=60, help="how long back (60)")
    options.add_argument("--end", type=float, default=time.time(), help="until when, in seconds since 1970 (now)")
    options.add_argument("--scrape", type=float, default=15, help="seconds from scrape to scrape (15)")
    chosen = options.parse_args()
    with open(chosen.board, encoding="utf-8") as file:
        board = json.load(file)
    prometheus = Prometheus(chosen.prometheus, chosen.end, chosen.minutes, chosen.scrape)
    prometheus.choose(board["templating"]["list"])
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    top = 44
    canvas = Canvas(24 * CELL + GAP, top + lines * LINE + GAP)
    canvas.text(GAP + 4, 14, board["title"], fontsize=12, weight="bold")
    when = [f"{datetime.datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}" for at in (prometheus.start, prometheus.end)]
    canvas.text(canvas.width - GAP - 4, 17, " to ".join(when), color=FAINT, ha="right")
    for panel in board["panels"]:
        place = panel["gridPos"]
        x, y = GAP + place["x"] * CELL, top + place["y"] * LINE
        w, h = place["w"] * CELL - GAP, place["h"] * LINE - GAP
        if panel["type"] == "row":
            canvas.text(x + 2, y + 10, f"▾ {panel['title']}", fontsize=9, weight="bold")
            continue
        if panel["type"] != "stat":
            canvas.box(x, y, w, h, PANEL)
            canvas.text(x + 12, y + 10, panel["title"], fontsize=8.5)
        KINDS[panel["type"]](canvas, prometheus, panel, x, y, w, h)
    canvas.figure.savefig(chosen.picture, facecolor=PAGE)


if __name__ == "__main__":
    main()
