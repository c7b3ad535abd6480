"""One page that shows what a world was made of, what it makes, and how good that is."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from openwfm import page as html
from openwfm.evaluation.charts import Line, bar_chart, line_chart
from openwfm.evaluation.futures import CEILING, COPY, MEAN, METRICS, WORLD
from openwfm.evaluation.reconstruction import TOKENIZER
from openwfm.evaluation.report_inputs import ReportInputs, RunInputs
from openwfm.files import write_text
from openwfm.page import ShownClip

METRIC_NAMES = {
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "moving_psnr": ("PSNR of moving pixels, dB", 2),
}
REPRODUCE = """make world SEED={seed}{scratch}
openwfm report in=FOLDER                      # this page again
openwfm evaluate run=FOLDER/world_model seed=0   # the tables again
openwfm generate run=FOLDER/world_model frames=clip.mp4 prompt="…" out=future.mp4"""


def write_report(inputs: ReportInputs, out: Path | str) -> None:
    """Write the page; whole or not at all. It fetches nothing when it is opened."""
    parts = [
        _header(inputs),
        _world(inputs.world),
        _tokenizer(inputs.tokenizer),
        _curation(inputs),
        _times(inputs),
        _reproduce(inputs),
    ]
    title = f"OpenWFM: {inputs.title}"
    write_text(out, html.page(title, "\n".join(part for part in parts if part)))


def _header(inputs: ReportInputs) -> str:
    run = inputs.world or inputs.tokenizer
    session: Mapping[str, Any] = run.session if run else {}
    machine = session.get("machine") or {}
    commit = session.get("git_commit")
    if commit:
        commit = commit[:12] + (" + changes" if session.get("uncommitted_sha256") else "")
    total = sum(seconds for _, seconds in inputs.stages)
    facts = {
        "seed": session.get("seed"),
        "trained from": _starts(inputs),
        "commit": commit,
        "date": str(session.get("started", ""))[:10] or None,
        "machine": _machine(machine),
        "total time": f"{total / 60:.1f} min" if inputs.stages else None,
    }
    missing = ""
    if inputs.missing:
        missing = html.paragraph(f"Not there yet: {', '.join(inputs.missing)}.", "bad")
    return (
        f"<header><h1>{escape(inputs.title)}: a small world, from raw video to futures</h1>"
        + html.paragraph(
            "Raw video → curation → shards → tokenizer → diffusion world model → generated futures "
            "→ evaluation. Nano scale: small networks, small pictures; the numbers are no claim "
            "about large models.",
            "soft",
        )
        + html.chips(facts)
        + html.cards(_headlines(inputs))
        + missing
        + "</header>"
    )


def _starts(inputs: ReportInputs) -> str | None:
    """Both trainings, in words."""
    runs = {"tokenizer": inputs.tokenizer, "world model": inputs.world}
    words = {name: _start(run) for name, run in runs.items() if run is not None}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{name}: {word}" for name, word in words.items()) or None


def _start(run: RunInputs) -> str:
    return "nothing (SCRATCH)" if run.start is None else "published weights (post-training)"


def _machine(machine: Mapping[str, Any]) -> str | None:
    if not machine:
        return None
    where = machine.get("gpu") or machine.get("processor")
    return f"{where}, {machine.get('cores')} cores, {machine.get('memory_gib')} GiB"


def _headlines(inputs: ReportInputs) -> list[tuple[str, str, str]]:
    found = []
    if inputs.curation:
        report = inputs.curation
        rejected = report["num_clips"] - report["num_clips_kept"]
        found.append((str(report["num_clips_kept"]), f"clips kept, {rejected} shots rejected", ""))
    if inputs.tokenizer and inputs.tokenizer.evaluation:
        psnr = inputs.tokenizer.evaluation["rows"][TOKENIZER]["psnr"]["mean"]
        found.append((f"{psnr:.1f} dB", "tokenizer PSNR on held-out clips", ""))
    if inputs.world and inputs.world.evaluation:
        value = inputs.world.evaluation["differences"][f"{WORLD} - {COPY}"]["moving_psnr"]
        if value["mean"] is not None and value["low"] is not None:
            better, worse = value["low"] > 0, value["high"] < 0
            verdict = "better than" if better else "worse than" if worse else "no different from"
            css = "good" if better else "bad"
            found.append(
                (
                    f"{value['mean']:+.2f} dB",
                    f"on moving pixels: {verdict} copying the last frame "
                    f"(95 % interval {value['low']:+.2f} to {value['high']:+.2f})",
                    css,
                )
            )
    return found


def _world(run: RunInputs | None) -> str:
    if run is None:
        return ""
    parts = [html.paragraph(_training(run), "soft")]
    found = run.evaluation
    if found:
        parts.append(
            html.paragraph(
                f"Left: real. Right: the first {found['condition_frames']} frames are given, the "
                f"other {found['future_frames']} are generated. Clips of source videos that "
                "training never saw."
            )
        )
        parts.append(html.videos(run.examples, "wide"))
        parts.append("<h3>Frame by frame (above: real, below: generated; every second frame)</h3>")
        parts.append(html.pictures(run.examples[:4]))
        parts.append("<h3>Metrics of future frames</h3>")
        parts.append(_futures_table(found))
        parts.append(html.charts([_future_curves(found, metric) for metric in ("psnr", "ssim")]))
    parts += _loss_charts(run)
    return html.section("Real and generated futures", *parts)


def _training(run: RunInputs) -> str:
    return (
        f"Trained from {_start(run)}"
        + (f" in {run.start}" if run.start else "")
        + (f", {run.num_steps} steps" if run.num_steps is not None else "")
        + f", on {run.session.get('device', 'cpu')}."
    )


def _futures_table(found: Mapping[str, Any]) -> str:
    header = ["", *(METRIC_NAMES[metric][0] for metric in METRICS)]
    rows = [
        (
            [escape(row), *(html.interval(v[m], METRIC_NAMES[m][1]) for m in METRICS)],
            row == WORLD,
        )
        for row, v in _ordered(found["rows"])
    ]
    rows += [
        (
            [
                escape(row.replace(" - ", " − ")),
                *(html.interval(v[m], METRIC_NAMES[m][1], signed=True) for m in METRICS),
            ],
            False,
        )
        for row, v in found["differences"].items()
    ]
    ours = found["rows"][WORLD]
    note = (
        f"{found['num_in']} windows in, {found['num_evaluated']} evaluated, "
        f"{len(found['rejected'])} rejected. N = {ours['psnr']['num_values']} windows of "
        f"{ours['psnr']['num_groups']} clips ({ours['moving_psnr']['num_values']} windows with "
        "moving pixels). Brackets: 95 % bootstrap intervals over clips. Moving pixels are those "
        "whose true value leaves the last given frame, and their neighbours; copying that frame is "
        "bad there by construction, so read it beside the mean video and beside all pixels. "
        "The tokenizer row is the ceiling."
    )
    return html.table(header, rows) + html.paragraph(note, "soft")


def _ordered(rows: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Ours first, then the ceiling, then what costs nothing; JSON sorts by name."""
    order = (WORLD, CEILING, COPY, MEAN)
    return sorted(rows.items(), key=lambda item: order.index(item[0]))


def _future_curves(found: Mapping[str, Any], metric: str) -> str:
    first = found["condition_frames"] + 1
    lines = {
        row: ([float(first + i) for i in range(len(of[metric]))], of[metric])
        for row, of in _ordered(found["curves"])
        if None not in of[metric]
    }
    return line_chart(lines, x_label="frame", y_label=METRIC_NAMES[metric][0])


def _loss_charts(run: RunInputs) -> list[str]:
    losses: dict[str, Line] = {
        name: run.curves[name] for name in ("train/loss", "val/loss") if name in run.curves
    }
    charts = []
    if losses:
        # The learned uncertainty makes a diffusion loss negative, so the axis is linear there.
        charts.append(line_chart(losses, x_label="step", y_label="loss", log=True))
    for names, label in ((("val/psnr",), "val PSNR, dB"), (("train/edm", "val/edm"), "EDM error")):
        lines: dict[str, Line] = {name: run.curves[name] for name in names if name in run.curves}
        if lines:
            charts.append(line_chart(lines, x_label="step", y_label=label))
    return ["<h3>Training</h3>", html.charts(charts)] if charts else []


def _tokenizer(run: RunInputs | None) -> str:
    if run is None:
        return ""
    parts = [html.paragraph(_training(run), "soft")]
    if run.evaluation:
        names = ("psnr", "ssim")
        rows = [
            (
                [escape(row), *(html.interval(v[m], METRIC_NAMES[m][1]) for m in names)],
                row == TOKENIZER,
            )
            for row, v in sorted(run.evaluation["rows"].items(), key=lambda r: r[0] != TOKENIZER)
        ]
        parts.append(html.paragraph("Left: real. Right: through the tokenizer and back."))
        parts.append(html.videos(run.examples, "wide"))
        parts.append(html.table(["", *(METRIC_NAMES[m][0] for m in names)], rows))
        found = run.evaluation["rows"][TOKENIZER]["psnr"]
        parts.append(
            html.paragraph(
                f"{run.evaluation['num_in']} windows in, {run.evaluation['num_evaluated']} "
                f"evaluated, of {found['num_groups']} held-out clips. The floor paints each clip "
                "in its mean colour.",
                "soft",
            )
        )
    return html.section("Tokenizer", *parts, *_loss_charts(run))


def _curation(inputs: ReportInputs) -> str:
    if inputs.curation is None and not inputs.clips:
        return ""
    parts = []
    if inputs.curation:
        report = inputs.curation
        most = max((s["received"] + s["created"] for s in report["stages"]), default=1) or 1
        rows = []
        for stage in report["stages"]:
            reasons = ", ".join(f"{name} {n}" for name, n in sorted(stage["reasons"].items()))
            width = 130 * stage["passed"] / most
            bar = f'<span class="bar" style="width:{width:.0f}px"></span> {stage["passed"]}'
            cells = [escape(stage["name"]), str(stage["received"] + stage["created"]), bar]
            cells += [str(stage["rejected"]), escape(reasons) or "–", f"{stage['seconds']:.1f} s"]
            rows.append((cells, False))
        header = ("stage", "in", "passed", "rejected", "reasons", "time of all workers")
        parts.append(html.table(header, rows, left=(2, 4)))
        parts.append(
            html.paragraph(
                f"{report['num_sources']} raw files ({report['num_sources_rejected']} rejected), "
                f"{report['source_frames']} frames, {report['num_clips']} shots, "
                f"{report['num_clips_kept']} clips kept. In each stage in = passed + rejected.",
                "soft",
            )
        )
    if inputs.clips:
        parts += ["<h3>Clips in the shards</h3>", html.videos(_short(inputs.clips))]
    return html.section("Curation", *parts)


def _short(clips: Any) -> list[ShownClip]:
    """Captions of clips may run on; a card has room for a sentence or two."""
    return [
        ShownClip(
            caption=clip.caption if len(clip.caption) <= 160 else clip.caption[:157] + "…",
            mp4=clip.mp4,
            note=clip.note,
        )
        for clip in clips
    ]


def _times(inputs: ReportInputs) -> str:
    if not inputs.stages:
        return ""
    total = sum(seconds for _, seconds in inputs.stages)
    chart = f'<div class="chart">{bar_chart(list(inputs.stages), unit="s")}</div>'
    return html.section("Time", html.paragraph(f"{total / 60:.1f} minutes in all."), chart)


def _reproduce(inputs: ReportInputs) -> str:
    run = inputs.world or inputs.tokenizer
    seed = run.session.get("seed", 0) if run else 0
    scratch = " SCRATCH=1" if run and run.start is None else ""
    parts = [f"<pre>{escape(REPRODUCE.format(seed=seed, scratch=scratch))}</pre>"]
    if run:
        packages = run.session.get("packages") or {}
        parts.append(html.chips(packages))
        hashes = {
            "data manifest": run.session.get("data_manifest_sha256"),
            "weights": (run.evaluation or {}).get("weights_sha256"),
        }
        parts.append(html.chips({name: value and value[:16] for name, value in hashes.items()}))
    return html.section("Reproduce", *parts)
