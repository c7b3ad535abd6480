"""Signatures read from source equal those that importing gives."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from openwfm.signatures import UnknownTarget, find_signature

TARGETS = [
    "torch.optim.AdamW",
    "torch.optim.lr_scheduler.LambdaLR",
    "lightning.Trainer",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.loggers.WandbLogger",
    "openwfm.nn.schedule.warmup_cosine",
    "openwfm.data.config.DataConfig",
    "openwfm.data.datamodule.ShardDataModule",
    "openwfm.tokenizer.config.TokenizerConfig",
    "openwfm.diffusion.config.DiTConfig",
    "openwfm.callbacks.ExportWeights",
]


@pytest.mark.parametrize("target", TARGETS)
def test_names_and_required_equal_inspect(target: str) -> None:
    module, _, name = target.rpartition(".")
    real = inspect.signature(getattr(importlib.import_module(module), name))
    kinds = inspect.Parameter
    named = {
        n: p
        for n, p in real.parameters.items()
        if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    }
    found = find_signature(target)
    assert found.names == set(named)
    assert set(found.required) == {n for n, p in named.items() if p.default is kinds.empty}
    assert found.open_ended == any(p.kind is kinds.VAR_KEYWORD for p in real.parameters.values())


@pytest.mark.parametrize(
    "target, hint",
    [
        ("torch.optim.AdmW", "AdamW"),
        ("torch.optimm.AdamW", "torch"),
        ("no_such_package_at_all.Thing", "no package"),
        ("Thing", "dotted path"),
    ],
)
def test_an_unknown_target_says_what_is_near(target: str, hint: str) -> None:
    with pytest.raises(UnknownTarget, match=hint):
        find_signature(target)


def test_nothing_is_imported() -> None:
    code = (
        "import sys; from openwfm.signatures import find_signature as f;"
        "f('torch.optim.AdamW'); f('lightning.Trainer'); f('openwfm.data.config.DataConfig');"
        "assert not {'torch', 'lightning'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
