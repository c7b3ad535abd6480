from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from openwfm.diffusion import DiT, DiTConfig

TINY = DiTConfig(
    width=32,
    num_blocks=2,
    num_heads=2,
    adaln_rank=8,
    text_width=12,
    padding_mask=False,
    condition_mask=False,
    max_size=(8, 16, 16),
)
CONF = Path(__file__).parents[2] / "conf" / "model"


def call(net: DiT, latents: torch.Tensor, **changes: object) -> torch.Tensor:
    values = {"text": torch.ones(len(latents), 3, net.config.text_width), "fps": 24.0, **changes}
    return net(latents, torch.full((len(latents),), 0.1), **values)  # type: ignore[arg-type]


def randomised(config: DiTConfig) -> DiT:
    net = DiT(config)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net


@pytest.mark.parametrize("group", ["objective/edm", "conditioner/*", "sampler/*"])
def test_yaml_builds(group: str) -> None:
    paths = sorted(CONF.glob(f"{group}.yaml"))
    assert paths
    for path in paths:
        values = yaml.safe_load(path.read_text())
        module, _, name = values.pop("_target_").rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        assert kind(**values)
        assert set(values) == set(kind.__dataclass_fields__), path


def test_samples_do_not_see_each_other() -> None:
    net = randomised(replace(TINY, condition_mask=True)).eval()
    latents, text = torch.randn(2, 16, 3, 4, 4), torch.randn(2, 3, 12)
    fps, level = torch.tensor([8.0, 30.0]), torch.tensor([0.5, -0.5])
    mask = torch.zeros(2, 1, 3, 4, 4)
    mask[1, :, :2] = 1
    with torch.no_grad():
        both = net(latents, level, text=text, fps=fps, condition_mask=mask)
        for i in range(2):
            part = slice(i, i + 1)
            one = net(
                latents[part],
                level[part],
                text=text[part],
                fps=fps[part],
                condition_mask=mask[part],
            )
            assert torch.allclose(both[part], one, atol=1e-5)


def test_each_input_matters() -> None:
    config = replace(TINY, condition_mask=True, padding_mask=True, extra_channels=2)
    net = randomised(config).eval()
    latents = torch.randn(1, 16, 2, 4, 4)
    base: dict[str, object] = {
        "condition_mask": torch.zeros(1, 1, 2, 4, 4),
        "padding_mask": torch.zeros(1, 1, 32, 32),
        "channels": torch.zeros(1, 2, 2, 4, 4),
        "modulation": torch.zeros(1, 128),
        "text": torch.ones(1, 3, 12),
        "fps": 24.0,
    }
    with torch.no_grad():
        reference = call(net, latents, **base)
        for name, value in base.items():
            changed = 12.0 if isinstance(value, float) else torch.randn_like(value)  # type: ignore
            assert not torch.allclose(reference, call(net, latents, **{**base, name: changed})), (
                name
            )
        assert torch.equal(reference, call(net, latents, **{**base, "padding_mask": None}))


def test_text_keys_computed_once_give_the_same() -> None:
    net = randomised(TINY).eval()
    latents, text = torch.randn(2, 16, 2, 4, 4), torch.randn(2, 3, 12)
    keys = net.text_keys(text, 9)
    with torch.no_grad():
        assert torch.equal(
            call(net, latents, text=text, null_tokens=9), call(net, latents, text=keys)
        )


def test_zero_output_at_start() -> None:
    net = DiT(replace(TINY, zero_init_output=True))
    assert torch.equal(call(net, torch.randn(1, 16, 1, 4, 4)), torch.zeros(1, 16, 1, 4, 4))


def test_initialisation_scales() -> None:
    net = DiT(replace(TINY, width=256))
    q, k, v = net.blocks[0].self_attention.qkv.weight.chunk(3)
    for part in (q, k, v):
        assert float(part.detach().std()) == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert float(net.level.linear_1.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(net.blocks[1].modulations[2].up.weight.detach().abs().max()) == 0
    assert float(net.final_modulation.up.weight.detach().abs().max()) > 0


@pytest.mark.parametrize(
    "shape, changes, message",
    [
        ((1, 15, 1, 4, 4), {}, "in_channels=16"),
        ((1, 16, 1, 5, 4), {}, "5 rows: must divide by 2"),
        ((1, 16, 1, 4, 18), {}, "18 columns.*at most 16"),
        ((1, 16, 9, 4, 4), {}, "9 frames.*at most 8"),
        ((1, 16, 2, 4, 4), {"fps": None}, "fps: missing"),
        ((1, 16, 2, 4, 4), {"fps": 0.0}, "fps.*positive"),
        ((1, 16, 1, 4, 4), {"text": torch.ones(1, 3, 13)}, "width 13.*text_width=12"),
        ((1, 16, 1, 4, 4), {"condition_mask": torch.ones(1, 1, 1, 4, 4)}, "takes none"),
        ((1, 16, 1, 4, 4), {"padding_mask": torch.ones(1, 1, 4, 4)}, "takes none"),
        ((1, 16, 1, 4, 4), {"text": torch.ones(1, 2, 3, 12)}, "text: shape.*num_views=1"),
        ((2, 16, 2, 4, 4), {"fps": torch.tensor([24.0, 24.0, 8.0])}, "fps: 3 of them"),
        ((1, 16, 1, 4, 4), {"frame_repeat": torch.zeros(1, 1)}, "has one view"),
        ((1, 16, 1, 4, 4), {"codes": torch.zeros(1, 1, 2, 2).long()}, "codes.*takes none"),
        ((1, 16, 1, 4, 4), {"channels": torch.ones(1, 3, 1, 4, 4)}, "extra_channels=0"),
    ],
)
def test_bad_input(shape: tuple[int, ...], changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(DiT(TINY), torch.zeros(shape), **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_heads": 3}, "width=32.*num_heads=3"),
        ({"num_heads": 4}, "head_dim=8"),
        ({"patch": (1, 2)}, "net.patch"),
        ({"patch": (1, 3, 2)}, "max_size"),
        ({"position_embedding": "sinus"}, "position_embedding=sinus"),
        ({"adaln_rank": 0}, "adaln_rank=0"),
        ({"extra_channels": -1}, "extra_channels"),
        ({"rope_dtype": "float16"}, "rope_dtype=float16: must be one of float32, bfloat16"),
        ({"num_views": 0}, "num_views=0: must be positive"),
        ({"num_views": 6}, "view_channels=0: must be positive with net.num_views=6"),
        ({"view_channels": 6}, "view_channels=6: must be 0 with net.num_views=1"),
        ({"codebook": 64000}, "code_channels=0: must be positive with net.codebook=64000"),
    ],
)
def test_bad_config(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)  # type: ignore[arg-type]
