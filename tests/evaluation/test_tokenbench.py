"""Tokenizers side by side: rates, codecs, Fréchet distances, and the whole benchmark."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from openwfm.cli import main
from openwfm.evaluation.backbones import EfficientNetLite0, TransformersVideo
from openwfm.evaluation.bench_clips import BenchData
from openwfm.evaluation.codecs import at_rate, h264, jpeg, slice_bits
from openwfm.evaluation.metrics import Moments, frechet_distance, psnr
from openwfm.evaluation.rates import ChannelCounts, entropy_bits, nominal_bits, rounded
from openwfm.evaluation.tokenbench import TokenBenchConfig, run_tokenbench
from openwfm.files import read_json
from openwfm.tokenizer import VideoTokenizer
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.video import to_uint8, write_video
from openwfm.weights import save_weights

TINY = {"channels": 8, "channels_mult": (1, 1, 1), "num_res_blocks": 1}


def save_tokenizer(folder, **net):
    from dataclasses import asdict

    config = TokenizerConfig(**TINY, **net)
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config)
    save_weights(folder, {"kind": "tokenizer", "net": asdict(config)}, tokenizer.state_dict())
    return folder


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    discrete = {"fsq_levels": (4, 3), "latent_channels": 2, "z_channels": 4}
    return (
        str(save_tokenizer(root / "continuous", latent_channels=4, z_channels=4)),
        str(save_tokenizer(root / "discrete", **discrete)),
    )


def moments(values):
    found = Moments()
    for part in torch.as_tensor(values).split(7):
        found.add(part)
    return found


@pytest.mark.parametrize("width", [1, 3, 12])
def test_frechet_distance_is_the_formula(width):
    random = np.random.default_rng(width)
    a = random.normal(size=(60, width)) @ random.normal(size=(width, width))
    b = random.normal(size=(60, width)) @ random.normal(size=(width, width)) + 1
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    one, two = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    expected = mean + np.trace(one + two - 2 * scipy.linalg.sqrtm(one @ two).real)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(moments(a), moments(a)) == pytest.approx(0, abs=1e-6)
    moved = frechet_distance(moments(a), moments(a + 2))
    assert moved == pytest.approx(4 * width, rel=1e-6)


def test_frechet_distance_of_fewer_vectors_than_dimensions():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(5, 40)), random.normal(size=(5, 40))
    assert math.isfinite(frechet_distance(moments(a), moments(b)))
    with pytest.raises(ValueError, match="1 vectors"):
        frechet_distance(moments(a[:1]), moments(b))


def test_entropy():
    assert entropy_bits({0: 8}) == 0
    assert entropy_bits({0: 4, 1: 4}) == pytest.approx(8)
    uniform = torch.arange(64).view(1, 1, 8, 8)
    counts = ChannelCounts()
    counts.add(torch.cat([uniform, uniform * 0]))
    counts.add(torch.cat([uniform, uniform * 0]))
    assert counts.bits() == pytest.approx(2 * 64 * 6)


def test_rounding_is_within_half_a_step():
    latents = torch.randn(3, 2, 5, 4)
    step = torch.tensor([0.1, 0.5, 2.0])
    symbols, coarse = rounded(latents, step)
    assert ((coarse - latents).abs() <= step.view(-1, 1, 1, 1) / 2 + 1e-6).all()
    assert torch.equal(symbols * step.view(-1, 1, 1, 1), coarse)


def test_nominal_bits():
    video = torch.zeros(16, 3, 8, 8)
    assert nominal_bits(VideoTokenizer(TokenizerConfig(**TINY)), video) == 16 * video.numel()
    config = TokenizerConfig(**TINY, fsq_levels=(8, 8), latent_channels=2)
    assert nominal_bits(VideoTokenizer(config), torch.zeros(2, 3, 8, 8)) == 6 * 3 * 64


def natural_like(frames=9, size=48):
    random = np.random.default_rng(1)
    ramp = np.linspace(0, 200, size)[None, :, None] + np.linspace(0, 40, size)[:, None, None]
    noise = random.normal(0, 8, (frames, size, size, 3))
    return (ramp + noise).clip(0, 255).astype(np.uint8)


def test_codecs_trade_bits_for_decibels():
    frames = natural_like()
    real = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1
    for coded in (
        [jpeg(frames, quality) for quality in (5, 40, 95)],
        [h264(frames, 24.0, crf) for crf in (45, 25, 8)],
    ):
        bits = [result.bits for result in coded]
        values = [float(psnr(result.video[None], real[None])) for result in coded]
        assert bits == sorted(bits) and values == sorted(values)
        assert len(set(bits)) == 3 and values[-1] > 30
        assert all(result.video.shape == real.shape for result in coded)
    # A still clip is cheap for H.264; JPEG pays for every frame again.
    still = np.repeat(frames[:1], 9, axis=0)
    assert h264(still, 24.0, 8).bits < 0.5 * h264(frames, 24.0, 8).bits
    assert jpeg(still, 40).bits == 9 * jpeg(still[:1], 40).bits


def test_slices_only():
    def unit(kind, size):
        return b"\x00\x00\x01" + bytes([kind | 96]) + b"\x80" * size

    stream = unit(7, 10) + unit(6, 700) + unit(5, 20) + unit(1, 3)
    assert slice_bits(stream) == 8 * (4 + 20 + 4 + 3)
    assert slice_bits(b"") == 0


def test_values_between_rates():
    assert at_rate([1.0, 0.01], [40.0, 20.0], 0.1) == pytest.approx(30)
    assert at_rate([0.01, 1.0], [20.0, 40.0], 1.0) == pytest.approx(40)
    assert math.isnan(at_rate([0.01, 1.0], [20.0, 40.0], 1.1))


def test_distance_and_features():
    backbone = EfficientNetLite0()
    video = torch.rand(2, 3, 5, 24, 40) * 2 - 1
    assert torch.equal(backbone.distance(video, video), torch.zeros(2))
    near, far = (video + scale * torch.randn_like(video) for scale in (0.02, 0.3))
    assert (backbone.distance(near, video) < backbone.distance(far, video)).all()
    width = backbone.images(video[:, :, 0]).shape[1]
    assert backbone.clips(video).shape == (2, 2 * width)
    assert backbone.clips(video[:, :, :1]).shape == (2, width)
    still = video[:, :, :1].expand(-1, -1, 5, -1, -1)
    assert backbone.clips(still)[:, width:].abs().max() < 1e-5


def test_a_video_model_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.VideoMAEConfig(
        image_size=16, patch_size=8, num_frames=4, hidden_size=8, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=8,
    )  # fmt: skip
    transformers.VideoMAEModel(config).save_pretrained(tmp_path / "m")
    backbone = TransformersVideo(folder=str(tmp_path / "m"), num_frames=4, size=16)
    assert backbone.label == "Fréchet, VideoMAE"
    assert backbone.clips(torch.rand(2, 3, 9, 20, 32)).shape == (2, 8)
    with pytest.raises(ValueError, match="folder=nowhere"):
        TransformersVideo(folder="nowhere")


def test_clips_of_files(tmp_path):
    for number, (height, width, frames) in enumerate([(40, 70, 30), (64, 48, 11), (32, 32, 3)]):
        video = torch.randint(0, 255, (frames, height, width, 3), dtype=torch.uint8)
        write_video(tmp_path / f"v{number}.mp4", video, 10.0)
    data = BenchData(data=str(tmp_path), num_frames=5, num_clips=9, seconds=2.0)
    clips = list(data)
    # In turn from each file; the first two seconds hold 20 frames; 3 frames are no window.
    assert [clip.key for clip in clips] == ["v0/0", "v1/0", "v0/1", "v1/1", "v0/2", "v0/3"]
    assert {clip.key[:2]: tuple(clip.video.shape) for clip in clips} == {
        "v0": (3, 5, 32, 64),
        "v1": (3, 5, 64, 48),
    }
    small = BenchData(data=str(tmp_path), num_frames=5, num_clips=2, short_side=32)
    assert [tuple(clip.video.shape[2:]) for clip in small] == [(32, 48), (32, 32)]
    with pytest.raises(ValueError, match="num_frames=90: longer than"):
        list(BenchData(data=str(tmp_path), num_frames=90))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.mp4"):
        list(BenchData(data=str(tmp_path / "empty")))


def test_the_whole_benchmark(tokenizers, tiny_shards):
    data = BenchData(data=str(tiny_shards), num_frames=9, num_clips=4)
    result = run_tokenbench(TokenBenchConfig(tokenizers=tokenizers, data=data))
    assert set(result.rows) == {"continuous", "discrete"}
    assert result.num_clips == 4
    # 9 frames are 2 latent frames: 4 numbers of 16 bits, or a token of log2 12, per 8x8.
    cells = 2 * 4 * 4 / (9 * 32 * 32)
    assert result.rows["continuous"]["bits per pixel"] == pytest.approx(cells * 4 * 16)
    assert result.rows["discrete"]["bits per pixel"] == pytest.approx(cells * math.log2(12))
    points = result.curves["continuous"]
    rates = [point["bits_per_pixel"] for point in points]
    assert rates == sorted(rates)
    assert points[-2]["psnr"] == pytest.approx(points[-1]["psnr"], abs=0.5)
    assert result.rows["discrete"]["codes used"] <= 12
    assert result.rows["discrete"]["perplexity"] <= 12
    assert set(result.curves) == {"JPEG", "H.264", "continuous", "discrete"}


def test_the_command(tokenizers, tiny_shards, tmp_path, capsys):
    clips = tmp_path / "videos"
    write_video(clips / "a b.mp4", to_uint8(torch.rand(3, 20, 32, 48) * 2 - 1), 24.0)
    arguments = ["benchmark=tokenbench", f"data={clips}", f"run=[{','.join(tokenizers)}]"]
    arguments += ["benchmark.data.num_frames=9", f"benchmark.out={tmp_path / 'out'}"]
    assert main(["evaluate", *arguments]) == 0
    found = read_json(tmp_path / "out" / "tokenbench.json")
    assert found["data"]["clips"] == 2
    assert found["features"]["frames"] == "Fréchet, EfficientNet-Lite0"
    page = (tmp_path / "out" / "tokenbench.html").read_text()
    assert "discrete" in page and "http" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "out" / "examples" / "00.png").is_file()
    assert (tmp_path / "out" / "rate_distortion.png").is_file()
    assert main(["evaluate", "benchmark=tokenbench", "data=nowhere", "run=[x]"]) == 2
    assert "data=nowhere: must be a folder" in capsys.readouterr().err


def test_mistakes_are_named(tokenizers, tiny_shards):
    data = BenchData(data=str(tiny_shards), num_frames=9, num_clips=2)
    with pytest.raises(ValueError, match="must be one or more different tokenizers"):
        TokenBenchConfig(tokenizers=(tokenizers[0], tokenizers[0]), data=data)
    with pytest.raises(ValueError, match="short_side=8"):
        BenchData(data=str(tiny_shards), short_side=8)
    wrong = BenchData(data=str(tiny_shards), num_frames=10, num_clips=2)
    with pytest.raises(ValueError, match="10 frames|frames=10"):
        run_tokenbench(TokenBenchConfig(tokenizers=tokenizers, data=wrong, codecs=False))
