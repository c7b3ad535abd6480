"""Small SVG charts for a page: text and axes take the page's colour, so dark mode works."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

INK = "#010203"  # stands for the page's text colour until the SVG is written
COLOURS = ("#2f7df6", "#e8833a", "#16a37b", "#9b6cf0", "#d64f7a")
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

Line = tuple[Sequence[float], Sequence[float]]


def line_chart(lines: Mapping[str, Line], *, x_label: str, y_label: str, log: bool = False) -> str:
    """Named lines (x values, y values). Long noisy lines are drawn faint, with their running mean."""
    figure, axes = _axes(4.8, 2.7)
    for colour, (name, (x, y)) in zip(_cycle(len(lines)), lines.items(), strict=True):
        if len(y) > 60:
            window = max(3, len(y) // 30)
            axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(*running_mean(x, y, window), color=colour, linewidth=1.8, label=name)
        else:
            marker = "o" if len(y) < 12 else None
            axes.plot(x, y, color=colour, linewidth=1.8, label=name, marker=marker, markersize=3.5)
    axes.set(xlabel=x_label, ylabel=y_label)
    if log and all(min(y, default=0) > 0 for _, y in lines.values()):
        axes.set_yscale("log")
    axes.grid(axis="y", alpha=0.2)
    if len(lines) > 1:
        axes.legend(fontsize=9)
    return _svg(figure, salt=f"{y_label} {sorted(lines)}")


def running_mean(
    x: Sequence[float], y: Sequence[float], window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the last ``window`` values; defined from the ``window``-th on."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(y, float)]))
    return np.asarray(x)[window - 1 :], (sums[window:] - sums[:-window]) / window


def bar_chart(bars: Sequence[tuple[str, float]], *, unit: str) -> str:
    """Horizontal bars, first on top, with their values."""
    figure, axes = _axes(6.4, 0.6 + 0.36 * len(bars))
    names, values = [name for name, _ in bars], [value for _, value in bars]
    drawn = axes.barh(names, values, color=COLOURS[0], height=0.62)
    axes.bar_label(drawn, labels=[f"{value:.0f} {unit}" for value in values], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    return _svg(figure, salt=f"bars {unit}")


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _axes(width: float, height: float) -> tuple[Any, Any]:
    """Without pyplot: no global state, and nothing that a thread or a display could disturb."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
    return figure, axes


def _svg(figure: Any, salt: str) -> str:
    """The bare ``<svg>`` element: no header, no metadata, ids that no other chart has."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace(INK, "currentColor")
