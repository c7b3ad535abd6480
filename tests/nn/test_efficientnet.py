"""The whole backbone against the package it comes from."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from openwfm.nn.efficientnet import EfficientNetFeatures, EfficientNetPooled, load_backbone


def test_pooled_features_and_classes_equal_the_original_network() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(load_backbone())
    network.eval()
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = F.interpolate(coarse, (224, 224), mode="bicubic").clamp(-1, 1)
    ours = EfficientNetPooled(load_backbone())
    with torch.no_grad():
        wanted = network.extract_features(images).mean(dim=(2, 3))
        pooled = ours(images)
        torch.testing.assert_close(pooled, wanted, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.logits(pooled), network(images), rtol=1e-3, atol=1e-3)


def test_nothing_of_the_backbone_is_trained_or_saved() -> None:
    for network in (EfficientNetFeatures(load_backbone()), EfficientNetPooled(load_backbone())):
        assert not list(network.parameters()) and not network.state_dict()
