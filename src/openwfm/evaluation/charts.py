"""Small SVG charts for a page: text and axes take the page's colour, so dark mode works."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

INK = "#010203"  # stands for the page's text colour until the SVG is written
HISTOGRAM = ("#2f7df6", "#e8833a")
COLOURS = ("#2f7df6", "#e8833a", "#16a37b", "#9b6cf0", "#d64f7a")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
}

Line = tuple[Sequence[float], Sequence[float]]


def line_chart(
    lines: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
    log_x: bool = False,
) -> str:
    """Named lines (x values, y values). Long ones are drawn faint, with their running mean."""

    def paint(axes: Any) -> None:
        for i, (name, (x, y)) in enumerate(lines.items()):
            style = {"color": COLOURS[i % len(COLOURS)], "linewidth": 1.8, "label": name}
            if len(y) > 60:
                axes.plot(x, y, color=style["color"], alpha=0.25, linewidth=0.8)
                axes.plot(*running_mean(x, y, max(3, len(y) // 30)), **style)
            else:
                axes.plot(x, y, marker="o" if len(y) < 12 else None, markersize=3.5, **style)
        axes.set(xlabel=x_label, ylabel=y_label)
        if log and all(min(y, default=0) > 0 for _, y in lines.values()):
            axes.set_yscale("log")
        if log_x:
            axes.set_xscale("log")
        axes.grid(axis="y")
        if len(lines) > 1:
            axes.figure.legend(loc="outside upper left", ncols=2)

    return _svg(5.4, 3.1, f"{y_label} {lines}", paint)


def histogram(
    groups: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    lines: Sequence[float] = (),
    bins: int = 40,
) -> str:
    """Stacked counts of named groups of values, with vertical ``lines`` (thresholds)."""
    values = np.concatenate([np.asarray(group, float) for group in groups.values()])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    low, high = min([low, *lines]), max([high, *lines])
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)

    def paint(axes: Any) -> None:
        axes.hist(
            [np.asarray(group, float) for group in groups.values()],
            bins=edges.tolist(),
            stacked=True,
            color=[HISTOGRAM[i % len(HISTOGRAM)] for i in range(len(groups))],
            label=list(groups),
        )
        for line in lines:
            axes.axvline(line, color=INK, linewidth=1.2, linestyle="--")
        axes.set(xlabel=x_label, yticks=[])
        axes.spines["left"].set_visible(False)

    return _svg(3.1, 1.7, f"{x_label} {groups} {lines}", paint)


def running_mean(
    x: Sequence[float], y: Sequence[float], window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the last ``window`` values; defined from the ``window``-th on."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(y, float)]))
    return np.asarray(x)[window - 1 :], (sums[window:] - sums[:-window]) / window


def bar_chart(bars: Sequence[tuple[str, float]], *, unit: str) -> str:
    """Horizontal bars, first on top, with their values."""

    def paint(axes: Any) -> None:
        values = [value for _, value in bars]
        drawn = axes.barh([name for name, _ in bars], values, color=COLOURS[0], height=0.62)
        axes.bar_label(drawn, labels=[f"{value:.0f} {unit}" for value in values], padding=4)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks([])

    return _svg(7.2, 0.4 + 0.34 * len(bars), f"{unit} {bars}", paint)


def _svg(width: float, height: float, salt: str, paint: Callable[[Any], None]) -> str:
    """The bare ``<svg>`` element: no header, no metadata, ids (by ``salt``) of its own.

    Without pyplot, so there is no global state and no display.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return text.replace(INK, "currentColor")
