"""What `run_tokenbench` found, as files: JSON, CSV, pictures, and a page to read."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from openwfm.evaluation.charts import line_chart
from openwfm.evaluation.metrics import Interval
from openwfm.evaluation.table import finite, plain_interval
from openwfm.evaluation.tokenbench import (
    BITS,
    H264,
    JPEG,
    PIXELS,
    TokenBenchConfig,
    TokenBenchResult,
)
from openwfm.files import write_bytes, write_json, write_text
from openwfm.page import chips, interval, page, paragraph, section, table
from openwfm.provenance import code_state, package_versions
from openwfm.video import png_bytes, stack_rows, strip, to_uint8, write_png

FILE, PAGE, PLOT = "tokenbench.json", "tokenbench.html", "rate_distortion.png"
ERROR_GAIN = 4.0
CODEC_STYLES: dict[str, Any] = {
    JPEG: {"color": "0.65", "linestyle": ":"},
    H264: {"color": "0.35", "linestyle": "--"},
}


def write_tokenbench(config: TokenBenchConfig, result: TokenBenchResult) -> Path:
    """Everything into ``config.out``; returns the page."""
    out = Path(config.out)
    rows = {name: _plain(row) for name, row in result.rows.items()}
    code = code_state()
    facts = {
        "schema": 1,
        "kind": "tokenbench",
        "data": {"clips": result.num_clips, "pixels": result.num_pixels},
        "data_identity": config.data.identity(),
        "num_frames": config.data.num_frames,
        "seed": config.seed,
        "features": result.labels,
        "floors": result.floors,
        "rows": rows,
        "curves": result.curves,
        "git_commit": code.commit,
        "packages": package_versions(),
    }
    write_json(out / FILE, facts)
    result.scores.write_csv(out / "clips.csv")
    write_bytes(out / PLOT, plot_png(result.curves))
    pictures = {key: example_picture(shown) for key, shown in result.examples}
    for number, picture in enumerate(pictures.values()):
        write_png(out / f"examples/{number:02d}.png", picture)
    write_text(out / PAGE, _page(config, result, rows, pictures))
    return out / PAGE


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: plain_interval(value)
        if isinstance(value, Interval)
        else value
        if isinstance(value, int)
        else finite(value)
        for name, value in row.items()
    }


def plot_png(curves: Mapping[str, list[dict[str, Any]]]) -> bytes:
    """PSNR over bits per pixel; a tokenizer's last point is what it stores without a coder."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        for name, points in curves.items():
            x = [point["bits_per_pixel"] for point in points]
            y = [point["psnr"] for point in points]
            marker = "s" if len(points) == 1 else "o"
            style = CODEC_STYLES.get(name, {})
            axes.plot(x, y, marker=marker, markersize=4, label=name, **style)
        axes.set(xscale="log", xlabel="bits per pixel", ylabel="PSNR, dB")
        axes.grid(alpha=0.2)
        figure.legend(frameon=False, fontsize=8, loc="outside upper left", ncols=4)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def example_picture(shown: Mapping[str, Tensor], frames: int = 5) -> UInt8[Tensor, "h w c"]:
    """A row of frames of the real clip, then of each tokenizer, each with its error below."""
    real = shown["real"]
    at = torch.linspace(0, real.shape[1] - 1, min(frames, real.shape[1])).round().long()
    rows = []
    for name, video in shown.items():
        rows.append(strip(to_uint8(video[:, at])))
        if name != "real":
            error = (video - real)[:, at].abs().mul(ERROR_GAIN) - 1
            rows.append(strip(to_uint8(error)))
    return stack_rows(rows)


def _page(
    config: TokenBenchConfig,
    result: TokenBenchResult,
    rows: Mapping[str, dict[str, Any]],
    pictures: Mapping[str, UInt8[Tensor, "h w c"]],
) -> str:
    facts = {
        "clips": result.num_clips,
        "frames a clip": config.data.num_frames,
        "data": config.data.data,
        "split": config.data.split if config.data.is_shards else None,
    }
    lines = {
        name: ([p["bits_per_pixel"] for p in points], [p["psnr"] for p in points])
        for name, points in result.curves.items()
    }
    order = " → ".join(["real", *(f"{name}, its error × {ERROR_GAIN:g}" for name in result.rows)])
    figures = "".join(
        '<figure class="strip"><img alt="" src="data:image/png;base64,'
        f'{base64.b64encode(png_bytes(picture)).decode()}">'
        f"<figcaption>{escape(key)}</figcaption></figure>"
        for key, picture in pictures.items()
    )
    return page(
        "Tokenizers",
        "<h1>Tokenizers side by side</h1>"
        + chips(facts)
        + section("Scores", _scores(result, rows), paragraph(_footnote(result), "soft"))
        + section(
            "Rate and distortion",
            f'<div class="chart">{line_chart(lines, x_label=BITS, y_label="PSNR, dB", log_x=True)}'
            "</div>",
            paragraph(
                "A continuous tokenizer's last point stores 16 bits a number; the others round its "
                "latents and take an ideal entropy coder that knows each channel's frequencies on "
                "these clips. A discrete one stores log2 of its vocabulary a token. JPEG's headers "
                "and tables and H.264's parameter sets are not counted.",
                "soft",
            ),
        )
        + section("Examples", paragraph(order, "soft"), figures),
    )


def _scores(result: TokenBenchResult, rows: Mapping[str, dict[str, Any]]) -> str:
    codecs = [name for name in (JPEG, H264) if any(name in row for row in rows.values())]
    header = ["", BITS, "PSNR, dB", "SSIM", "feature distance"]
    header += [f"{name} at these bits, dB" for name in codecs]
    header += [result.labels["frames"], f"{result.labels['clips']} (clips)", "codes, perplexity"]
    body = []
    for name, row in rows.items():
        cells = [escape(name), f"{row[BITS]:.4f}"]
        cells += [interval(row[m], d) for m, d in zip(PIXELS, (2, 3, 3), strict=True)]
        cells += [interval(row[codec], 2) for codec in codecs]
        for kind in ("frechet frames", "frechet clips"):
            cells.append("–" if row[kind] is None else f"{row[kind]:.2f}")
        used = f"{row['codes used']}, {row['perplexity']:.0f}" if "perplexity" in row else ""
        body.append(([*cells, used], False))
    return table(header, body)


def _footnote(result: TokenBenchResult) -> str:
    halves = ", ".join(
        f"{value:.2f} ({name})" for name, value in result.floors.items() if value is not None
    )
    return (
        "Brackets: 95 % bootstrap interval over clips. A dash: the codec does not go there. "
        f"Fréchet distances between two halves of the real clips: {halves or 'too few clips'}; "
        "they fall with the number of clips and compare only at equal numbers."
    )
