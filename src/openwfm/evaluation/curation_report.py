"""The page a person tunes a curation policy with: funnel, scores, what went and what stayed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from openwfm.evaluation.charts import bar_chart, histogram
from openwfm.evaluation.curation_inputs import CurationInputs, Picture
from openwfm.files import write_text
from openwfm.page import cards, charts, chips, page, paragraph, section, table

MAX_TAGS = 24
STRIPS = """<style>
.sheet { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.couple { display: grid; gap: 6px; grid-template-columns: 1fr 1fr; margin-bottom: 10px; }
.small { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); }
h3 b { color: var(--accent); }
</style>"""


def write_curation_report(inputs: CurationInputs, out: Path) -> None:
    """One self-contained page; whole or absent."""
    parts = [
        STRIPS,
        f"<h1>Curation of {escape(inputs.title)}</h1>",
        _head(inputs.report),
        _funnel(inputs),
        _scores(inputs),
        _rejected(inputs),
        _duplicates(inputs),
        _kept(inputs),
    ]
    write_text(out, page(f"Curation: {inputs.title}", "\n".join(parts)))


def _head(report: Mapping[str, Any]) -> str:
    speed = report.get("new_frames_per_second")
    hours = report["source_seconds"] / 3600
    numbers = [
        (f"{report['num_clips_kept']}", "clips kept", "good"),
        (f"{report['num_clips'] - report['num_clips_kept']}", "clips rejected", "bad"),
        (f"{hours:.2f} h" if hours >= 0.1 else f"{report['source_seconds']:.0f} s", "of video", ""),
        (f"{speed:.0f} /s" if speed else "–", "source frames, all stages", ""),
    ]
    facts = {
        "videos": report["num_sources"],
        "refused": report["num_sources_rejected"],
        "seconds of work": f"{report['seconds']:.0f}",
        "manifest": report["manifest_sha256"][:12],
    }
    return chips(facts) + cards(numbers)


def _funnel(inputs: CurationInputs) -> str:
    stages = inputs.report["stages"]
    most = max((stage["passed"] for stage in stages), default=1) or 1
    rows = []
    for stage in stages:
        reasons = sorted(stage["reasons"].items(), key=lambda item: -item[1])
        width = 180 * stage["passed"] / most
        rows.append(
            (
                [
                    escape(stage["name"]),
                    str(stage["received"]),
                    str(stage["created"]),
                    f'<span class="bar" style="width:{width:.0f}px"></span> {stage["passed"]}',
                    str(stage["rejected"]),
                    escape(", ".join(f"{name} {count}" for name, count in reasons)),
                    f"{100 * stage['share']:.0f} %",
                ],
                False,
            )
        )
    header = ["stage", "in", "new", "out", "rejected", "why", "time"]
    return section(
        "Funnel",
        table(header, rows, left=(3, 5)),
        paragraph("in + new = out + rejected, at every stage; shots are made of videos.", "soft"),
    )


def _scores(inputs: CurationInputs) -> str:
    ruled = [name for name in inputs.scores if name in inputs.thresholds]
    others = [name for name in inputs.scores if name not in inputs.thresholds]
    parts = []
    for title, names in (("In the policy", ruled), ("Measured only", others)):
        svgs = []
        for name in names:
            kept, rejected = inputs.scores[name]
            groups = {"kept": kept, "rejected": rejected}
            lines = inputs.thresholds.get(name, ())
            label = name + "".join(f"   | {line:g}" for line in lines)
            svgs.append(f'<div class="chart">{histogram(groups, x_label=label, lines=lines)}</div>')
        if svgs:
            parts += [f"<h3>{title}</h3>", f'<div class="small">{"".join(svgs)}</div>']
    legend = "Clips by score: kept blue, rejected orange (for whatever reason); dashed: threshold."
    return section("Scores", paragraph(legend, "soft"), *parts)


def _figure(picture: Picture) -> str:
    image = "<p class=soft>&nbsp;no picture</p>"
    if picture.png is not None:
        data = base64.b64encode(picture.png).decode()
        image = f'<img alt="" loading="lazy" src="data:image/png;base64,{data}">'
    return (
        f"<figure>{image}<figcaption>{escape(picture.note)}"
        f"<small>{escape(picture.title)}</small></figcaption></figure>"
    )


def _sheet(pictures: Sequence[Picture]) -> str:
    return f'<div class="sheet">{"".join(map(_figure, pictures))}</div>'


def _rejected(inputs: CurationInputs) -> str:
    parts = []
    for reason, pictures in inputs.rejected.items():
        count = inputs.num_rejected[reason]
        parts += [f"<h3><b>{escape(reason)}</b> {count}</h3>", _sheet(pictures)]
    return section("Rejected", *parts) if parts else ""


def _duplicates(inputs: CurationInputs) -> str:
    if not inputs.duplicates:
        return ""
    couples = "".join(
        f'<div class="couple">{_figure(kept)}{_figure(copy)}</div>'
        for kept, copy in inputs.duplicates
    )
    count = inputs.num_rejected["duplicate"]
    text = f"Left: the clip that stayed; right: the one that repeats it ({count} in all)."
    return section("Duplicates", paragraph(text, "soft"), couples)


def _kept(inputs: CurationInputs) -> str:
    parts = [_sheet(inputs.kept)]
    if inputs.tags:
        bars = [(name, float(count)) for name, count in inputs.tags[:MAX_TAGS]]
        parts += ["<h3>Tags of kept clips</h3>", charts([bar_chart(bars, unit="clips")])]
    return section("Kept", *parts)
