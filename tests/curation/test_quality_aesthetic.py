"""The aesthetic head on a small random CLIP, saved and loaded as a user's files would be."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from openwfm.curation.aesthetic import AestheticConfig, load_head, load_mlp
from openwfm.curation.quality import MeasureQuality

transformers = pytest.importorskip("transformers")

WIDTHS = (24, 1024, 128, 64, 16, 1)
KEYS = ("layers.0", "layers.2", "layers.4", "layers.6", "layers.7")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip``: a CLIP of 24-wide embeddings; ``scorer``: a ViT with one output; ``head``."""
    root = tmp_path_factory.mktemp("aesthetic")
    torch.manual_seed(0)
    small = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    vision = transformers.CLIPVisionConfig(**small, projection_dim=24)
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(root / "clip")
    size = {"size": {"height": 32, "width": 32}}
    processor = transformers.CLIPImageProcessor(**size, do_center_crop=False)
    processor.save_pretrained(root / "clip")
    for name, outputs in (("scorer", 1), ("classifier", 3)):
        vit = transformers.ViTConfig(**small, num_labels=outputs)
        transformers.ViTForImageClassification(vit).save_pretrained(root / name)
        transformers.ViTImageProcessor(**size).save_pretrained(root / name)
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for key, wide, out in zip(KEYS, WIDTHS[:-1], WIDTHS[1:], strict=True):
        tensors[f"{key}.weight"] = torch.randn(out, wide, generator=random) / wide**0.5
        tensors[f"{key}.bias"] = torch.randn(out, generator=random)
    save_file(tensors, root / "head.safetensors")
    return root


@pytest.fixture
def stills() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), dtype=np.uint8)


def config(folder: Path, **changes: object) -> AestheticConfig:
    values = {"model": str(folder / "clip"), "head": str(folder / "head.safetensors")}
    return AestheticConfig(**{**values, **changes})  # type: ignore[arg-type]


def test_the_head_is_a_product_of_matrices(folder: Path) -> None:
    """No activation stands between the layers, so the whole head is affine."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "head.safetensors")
    x = np.random.default_rng(2).normal(size=(7, 24))
    expected = x
    for key in KEYS:
        expected = expected @ tensors[f"{key}.weight"].T + tensors[f"{key}.bias"]
    mlp = load_mlp(folder / "head.safetensors", 24)
    found = mlp(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-4, atol=1e-4)


def test_clip_scores_do_not_depend_on_the_batch(folder: Path, stills: np.ndarray) -> None:
    one = load_head(config(folder, batch_size=1))(stills)
    many = load_head(config(folder, batch_size=4))(stills)
    assert one.shape == (5,) and np.ptp(one) > 0
    np.testing.assert_allclose(one, many, rtol=1e-4)
    np.testing.assert_allclose(load_head(config(folder, max_stills=1))(stills), one[2:3], rtol=1e-4)


def test_reduction(folder: Path) -> None:
    values = np.array([3.0, 1.0, 5.0])
    assert load_head(config(folder)).reduce(values) == 1
    assert load_head(config(folder, reduce="mean")).reduce(values) == 3


def test_scorer_is_the_logit(folder: Path, stills: np.ndarray) -> None:
    head = load_head(AestheticConfig(kind="scorer", model=str(folder / "scorer")))
    model = transformers.ViTForImageClassification.from_pretrained(folder / "scorer").eval()
    processor = transformers.ViTImageProcessor.from_pretrained(folder / "scorer")
    with torch.inference_mode():
        inputs = processor(images=list(stills), return_tensors="pt")
        expected = model(**inputs).logits[:, 0].numpy()
    np.testing.assert_allclose(head(stills), expected, rtol=1e-3, atol=1e-4)
    assert head.name == "scorer:scorer"


def test_wrong_weights_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layers\.0\.weight.*\(1024, 24\), not \(1024, 32\)"):
        load_mlp(folder / "head.safetensors", 32)
    with pytest.raises(ValueError, match="must have 1, the score"):
        load_head(AestheticConfig(kind="scorer", model=str(folder / "classifier")))
    broken = tmp_path / "head.safetensors"
    broken.write_bytes((folder / "head.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors"):
        load_head(config(folder, head=str(broken)))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "dover"}, {"reduce": "max"}, {"max_stills": 0}, {"batch_size": 0},
        {"model": "/nowhere"}, {"head": "/nowhere"}, {"kind": "scorer"},
    ],
)  # fmt: skip
def test_bad_settings_are_named(folder: Path, changes: dict[str, object]) -> None:
    key = "head" if changes == {"kind": "scorer"} else next(iter(changes))
    with pytest.raises(ValueError, match=rf"aesthetic\.{key}="):
        config(folder, **changes)


def test_there_is_no_head_by_default() -> None:
    assert MeasureQuality().aesthetic is None


def test_yaml_names_every_field_with_its_default() -> None:
    file = Path(__file__).parents[2] / "conf" / "curation" / "aesthetic" / "clip_mlp.yaml"
    values = yaml.safe_load(file.read_text())
    assert values.pop("_target_") == "openwfm.curation.aesthetic.AestheticConfig"
    defaults = {item.name: item.default for item in fields(AestheticConfig)}
    assert values.keys() == defaults.keys()
    assert values == defaults | {"model": "???", "head": "???"}
    assert defaults["model"] is MISSING
