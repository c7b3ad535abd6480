"""The YAML files of captions hold every field, and its default where there is one."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from openwfm.config import build, compose, config_folder
from openwfm.curation.captioner import CaptionerConfig, RewriteConfig
from openwfm.curation.server import EndpointConfig, SamplingConfig
from openwfm.curation.vlm import VlmFilterConfig
from openwfm.curation.windows import WindowConfig

NOT_DEFAULT = {
    ("WindowConfig", "pictures_of"),
    ("EndpointConfig", "concurrency"), ("EndpointConfig", "timeout_seconds"),
}  # fmt: skip
CHOICES = [
    ("caption", "rules"),
    ("caption", "endpoint"),
    ("caption", "driving"),
    ("caption", "robot"),
    ("rewrite", "endpoint"),
    ("vlm", "endpoint"),
]


def node(group: str, choice: str, *more: str, folder: Path) -> Any:
    paths = [f"in={folder}", f"out={folder}x"]
    config = compose("curate", [*paths, f"curation/{group}={choice}", *more], unchecked=True)
    return config.curation[group]


def check_defaults(config: Any, value: Any) -> None:
    """Every field is written down; those with a default have it."""
    assert {field.name for field in fields(value)} == {str(key) for key in config} - {"_target_"}
    for field in fields(value):
        item = getattr(value, field.name)
        default = field.default if field.default is not MISSING else None
        if field.default_factory is not MISSING:
            default = field.default_factory()
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if is_dataclass(item):
            check_defaults(config[field.name], item)
        elif has_default and (type(value).__name__, field.name) not in NOT_DEFAULT:
            assert item == default, field.name


@pytest.mark.parametrize("group, choice", CHOICES)
def test_files_build_and_hold_the_defaults(group, choice, tmp_path) -> None:
    config = node(group, choice, folder=tmp_path)
    value = build(config)
    assert isinstance(value, CaptionerConfig | RewriteConfig | VlmFilterConfig)
    check_defaults(config, value)


def test_every_file_was_tried() -> None:
    folder = config_folder() / "curation"
    found = {
        (group, file.stem)
        for group in ("caption", "rewrite", "vlm")
        for file in (folder / group).glob("*.yaml")
    }
    assert found == set(CHOICES)


def test_the_server_is_one_override(tmp_path) -> None:
    at = "curation/server@curation.caption.vision.endpoint=ollama"
    value = build(node("caption", "endpoint", at, folder=tmp_path))
    assert value.vision.endpoint.base_url.endswith(":11434/v1")


def test_variants_differ_in_the_prompt_alone(tmp_path) -> None:
    texts = set()
    for choice in ("endpoint", "driving", "robot"):
        config = node("caption", choice, folder=tmp_path)
        texts.add(config.vision.prompt.text)
        config.vision.prompt = None
        texts.add(str(config))
    assert len(texts) == 4


def test_the_judge_has_the_references_thirteen_defects_and_27_labels(tmp_path) -> None:
    value = build(node("vlm", "endpoint", folder=tmp_path))
    assert len(value.defects) == 13 and len(value.labels) == 27
    question = value.question()
    assert "{" not in question and all(name in question for name in (*value.defects, *value.labels))


def test_a_caption_has_no_stills_of_the_source(tmp_path) -> None:
    override = "curation.caption.vision.windows.pictures_of=source"
    with pytest.raises(ValueError, match=r"caption\.vision\.windows\.pictures_of=source.*clip"):
        build(node("caption", "endpoint", override, folder=tmp_path))


@pytest.mark.parametrize("config", [EndpointConfig, SamplingConfig, WindowConfig])
def test_configs_are_frozen_and_keyword_only(config) -> None:
    assert config.__dataclass_params__.frozen
    assert all(field.kw_only for field in fields(config))
