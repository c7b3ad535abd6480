"""Schedules of weights, which terms count when, and backbones by name."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from openwfm.extras import MissingExtraError
from openwfm.tokenizer.backbones import StrideFeatures, build_backbone
from openwfm.tokenizer.objective import Objective, ReconstructionConfig, weight_at


@pytest.mark.parametrize(
    "weight, at",
    [
        (0.3, {0: 0.3, 10**7: 0.3}),
        ({5: 0.2}, {0: 0.0, 4: 0.0, 5: 0.2, 99: 0.2}),
        ({0: 0.1, 500: 0.07, 50: 1.0}, {0: 0.1, 49: 0.1, 50: 1.0, 499: 1.0, 500: 0.07}),
    ],
)
def test_a_weight_at_a_step(weight: Any, at: dict[int, float]) -> None:
    assert {step: weight_at(weight, step) for step in at} == at


@pytest.mark.parametrize(
    "values, message",
    [
        ({"gram": -1.0}, "objective.gram=-1.0: must be at least 0 and finite"),
        ({"flow": {0: 0.0, 10: float("inf")}}, "objective.flow=inf: must be at least 0"),
        ({"flow": {}}, "objective.flow={}: must name at least one step"),
        ({"gram": {"x": 1.0}}, "objective.gram: step 'x': must be an integer"),
        ({"features": "vgg16"}, "objective.features=vgg16: must be efficientnet_lite0, torchv"),
        ({"features": "timm:"}, "objective.features=timm:: must be"),
        ({"flow_estimator": "raft"}, "flow_estimator=raft: must be one of lucas_kanade, raft_s"),
    ],
)
def test_bad_objectives_name_key_value_and_rule(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReconstructionConfig(**values)


def pair(frames: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, frames, 32, 32, generator=generator) * 2 - 1
    return (video * 0.8).requires_grad_(), video


def test_terms_come_and_go_with_their_weights() -> None:
    config = ReconstructionConfig(perceptual={3: 0.1}, gram={0: 0.5, 2: 0.0}, flow={1: 0.2, 5: 0.3})
    objective, (made, video) = Objective(config), pair(3)

    def terms(step: int) -> dict[str, float]:
        found = objective(made, video, step, torch.Generator().manual_seed(0))
        assert all(value.isfinite() and value > 0 for _, value in found.values())
        return {name: weight for name, (weight, _) in found.items()}

    assert terms(0) == {"l1": 1.0, "gram": 0.5}
    assert terms(1) == {"l1": 1.0, "gram": 0.5, "flow": 0.2}
    assert terms(2) == {"l1": 1.0, "flow": 0.2}
    assert terms(5) == {"l1": 1.0, "perceptual": 0.1, "flow": 0.3}


def test_gradients_of_each_term_reach_the_reconstruction_only() -> None:
    config = ReconstructionConfig(gram=1.0, flow=1.0)
    made, video = pair(3)
    video.requires_grad_()
    terms = Objective(config)(made, video.detach(), 0, torch.Generator().manual_seed(0))
    for _, value in terms.values():
        (gradient,) = torch.autograd.grad(value, made, retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0
    assert video.grad is None


def test_images_have_no_flow_term() -> None:
    made, video = pair(1)
    terms = Objective(ReconstructionConfig(flow=1.0))(made, video, 0, torch.Generator())
    assert set(terms) == {"l1", "perceptual"}


class Classifier(nn.Module):
    """A small convolutional classifier as the libraries have them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(8, 10)
        self.default_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


def test_stride_features_are_the_last_map_at_each_resolution() -> None:
    network = Classifier()
    features = StrideFeatures(network, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)).train()
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scaled = images / 2 + 0.5
    for channel, (mean, std) in enumerate([(0.5, 0.2), (0.4, 0.3), (0.3, 0.4)]):
        scaled[:, channel] = (scaled[:, channel] - mean) / std
    fine, coarse = features(images)
    torch.testing.assert_close(fine, network.body[:2](scaled))
    torch.testing.assert_close(coarse, network.body[:5](scaled))
    assert not any(p.requires_grad for p in features.parameters())
    assert not any(module.training for module in features.modules())
    assert len(StrideFeatures(network, (0, 0, 0), (1, 1, 1), depths=1)(images)) == 1


def library(name: str, **values: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(values)
    return module


def test_backbones_of_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins with the calls that torchvision 0.28 and timm 1.0 answer."""
    asked: list[tuple[str, object]] = []

    def create_model(name: str, *, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return Classifier()

    def get_model(name: str, *, weights: object) -> nn.Module:
        asked.append((name, weights))
        return Classifier()

    transforms = SimpleNamespace(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    best = SimpleNamespace(transforms=lambda: transforms)
    models = library(
        "torchvision.models",
        get_model=get_model,
        get_model_weights=lambda name: SimpleNamespace(DEFAULT=best),
    )
    monkeypatch.setitem(sys.modules, "timm", library("timm", create_model=create_model))
    monkeypatch.setitem(sys.modules, "torchvision", library("torchvision", models=models))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    for name in ("timm:small", "torchvision:small"):
        made = build_backbone(name)
        assert isinstance(made, StrideFeatures)
        assert made.get_buffer("mean").flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert asked == [("small", True), ("small", best)]


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"openwfm\[backbones\]"):
        build_backbone("timm:resnet18")
