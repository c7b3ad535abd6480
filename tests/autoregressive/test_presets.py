"""Every preset has a config file that says the same."""

from __future__ import annotations

import pytest

from openwfm.autoregressive.presets import PRESETS
from openwfm.config import build, compose


@pytest.mark.parametrize("name", PRESETS)
def test_the_file_equals_the_preset(name):
    text = "minilm" if PRESETS[name].context_width else "none"
    overrides = ["model=autoregressive", f"model/net={name}", f"model/text={text}"]
    overrides += ["model.tokenizer=t", "data.config.shards=s"]
    assert build(compose("train", overrides).model.net) == PRESETS[name]
