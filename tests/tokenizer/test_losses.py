"""Properties of the objective's terms, and the backbone against the package it comes from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio

from openwfm.tokenizer.backbones import build_backbone
from openwfm.tokenizer.features import EfficientNetFeatures, load_backbone
from openwfm.tokenizer.losses import (
    gram_distance,
    gram_matrix,
    l1_loss,
    perceptual_distance,
    pick_frames,
    psnr,
    take_frames,
)

TAPS = (0, 2, 4, 10)


Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    return build_backbone("efficientnet_lite0")


@pytest.fixture(scope="module")
def distance(backbone: torch.nn.Module) -> Distance:
    return lambda ours, theirs: perceptual_distance(backbone(ours), backbone(theirs))


@pytest.fixture
def images() -> torch.Tensor:
    coarse = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, (64, 64), mode="bicubic").clamp(-1, 1)


def test_features_equal_the_original_network(images: torch.Tensor) -> None:
    """Batch norm folded or not, our own code or the package's: one network."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(load_backbone())
    network.eval()
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem(images)))
        wanted = []
        for i, block in enumerate(network._blocks[: TAPS[-1] + 1]):
            x = block(x)
            if i in TAPS:
                wanted.append(x)
        ours = EfficientNetFeatures(load_backbone())(images)
    for left, right, stride in zip(ours, wanted, (2, 4, 8, 16), strict=True):
        assert left.shape[-1] == 64 // stride
        assert (left - right).abs().max() < 1e-4 * right.abs().max()


def test_distance_is_zero_for_equals_and_symmetric(
    distance: Distance, images: torch.Tensor
) -> None:
    assert distance(images, images) == 0
    other = images.flip(-1)
    torch.testing.assert_close(distance(images, other), distance(other, images))


def test_distance_grows_with_noise_and_blur(distance: Distance, images: torch.Tensor) -> None:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    noisy = [float(distance(images + level * noise, images)) for level in (0.02, 0.08, 0.3)]
    blurred = [
        float(distance(F.avg_pool2d(images, k, 1, k // 2, count_include_pad=False), images))
        for k in (3, 7, 15)
    ]
    assert 0 < noisy[0] < noisy[1] < noisy[2]
    assert 0 < blurred[0] < blurred[1] < blurred[2]


def test_the_backbone_is_frozen_and_has_no_state(backbone: torch.nn.Module) -> None:
    assert not list(backbone.parameters())
    assert backbone.state_dict() == {}


def test_psnr_equals_torchmetrics_per_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(3, 3, 5, 8, 8, generator=generator) * 2 - 1
    ours = video + torch.randn(video.shape, generator=generator) * 0.3
    wanted = [
        peak_signal_noise_ratio((a.clamp(-1, 1) + 1) / 2, (b + 1) / 2, data_range=1.0)
        for a, b in zip(ours, video, strict=True)
    ]
    torch.testing.assert_close(psnr(ours, video), torch.stack(wanted))
    assert torch.isfinite(psnr(video, video)).all()
    assert psnr(video * 0 + 5, video * 0 + 1).eq(100).all(), "values beyond white are white"


def test_l1_closed_form() -> None:
    video = torch.zeros(2, 3, 1, 8, 8)
    assert l1_loss(video + 0.25, video) == 0.25


def test_picked_frames_are_different_and_repeatable() -> None:
    first = pick_frames(64, 17, 4, torch.Generator().manual_seed(3))
    again = pick_frames(64, 17, 4, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert all(len(set(row.tolist())) == 4 for row in first)
    assert set(first.flatten().tolist()) == set(range(17))
    assert pick_frames(2, 1, 4, torch.Generator()).tolist() == [[0], [0]]


def test_taken_frames_are_those_picked() -> None:
    video = torch.arange(2 * 5).view(2, 1, 5, 1, 1).expand(2, 3, 5, 2, 2).float()
    taken = take_frames(video, torch.tensor([[4, 0], [1, 2]]))
    assert taken.shape == (4, 3, 2, 2)
    assert taken[:, 0, 0, 0].tolist() == [4, 0, 6, 7]


def test_gram_matrix_equals_numpy_and_forgets_places() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 5, 4, 3, generator=generator)
    ours = gram_matrix(features, num_clips=2)
    for clip in range(2):
        rows = features[3 * clip : 3 * clip + 3].numpy().transpose(1, 0, 2, 3).reshape(5, -1)
        torch.testing.assert_close(ours[clip], torch.from_numpy(rows @ rows.T / rows.shape[1]))
    shuffled = features.flatten(2)[..., torch.randperm(12, generator=generator)].view_as(features)
    torch.testing.assert_close(gram_matrix(shuffled, 2), ours)
    assert gram_distance([features], [shuffled], 2) < 1e-10
    assert gram_distance([features], [features * 2], 2) == pytest.approx(
        float((3 * ours).square().mean()), rel=1e-5
    )
