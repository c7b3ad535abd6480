"""The T5 encoder through transformers, with a small random model saved locally."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openwfm.diffusion.conditioner import Conditioner
from openwfm.diffusion.config import ConditionerConfig
from openwfm.text import embed_prompts, text_encoder
from openwfm.text.t5 import FOLDER, T5Encoder

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "ball", "box", "rolls", "falls", "two"]
WORDS += ["three"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model and tokenizer (one token a word, and an end token) as transformers saves them."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    root = tmp_path_factory.mktemp("t5")
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
        dropout_rate=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.T5EncoderModel(config).save_pretrained(root)
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(root)
    return root


@pytest.fixture(scope="module")
def encoder(folder: Path) -> T5Encoder:
    return T5Encoder(folder)


def test_own_tokens_only(encoder: T5Encoder) -> None:
    texts = ["", "a red ball", "ball " * 600]
    found = encoder.encode(texts)
    assert [array.shape for array in found] == [(1, 16), (4, 16), (512, 16)]
    assert all(array.dtype == np.float16 for array in found)
    assert encoder.encode([]) == [] and encoder.width == 16


def test_against_the_released_procedure(encoder: T5Encoder, folder: Path) -> None:
    """Padded to 512, attention mask given, zero beyond the prompt (reference code, section 4)."""
    import transformers

    model = transformers.T5EncoderModel.from_pretrained(folder).eval()
    texts = ["two red ball", "a blue box falls three rolls"]
    ids = torch.zeros(2, 512, dtype=torch.long)
    mask = torch.zeros(2, 512, dtype=torch.long)
    for row, text in enumerate(texts):
        tokens = [WORDS.index(word) for word in text.split()] + [1]
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
    with torch.no_grad():
        wanted = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    ours = embed_prompts(lambda: encoder, texts, 16, 512)
    assert ours is not None and ours.shape == (2, 512, 16)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-3)  # fp16
    assert not ours[0, 4:].any() and not ours[1, 7:].any()


def test_a_prompt_does_not_depend_on_its_neighbours(encoder: T5Encoder) -> None:
    alone = encoder.encode(["a red ball"])[0].astype(np.float32)
    beside = encoder.encode(["a red ball", "ball " * 200])[0].astype(np.float32)
    np.testing.assert_allclose(alone, beside, atol=2e-3)


def test_zero_tokens_reach_the_conditioner_unmasked(encoder: T5Encoder) -> None:
    config = ConditionerConfig(text_encoder="t5-11b", text_width=16, text_tokens=512)
    text, zeros = Conditioner(config).text(embed_prompts(lambda: encoder, ["a red ball"], 16, 512))
    assert text.shape == (1, 4, 16) and zeros == 508


def test_by_name_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(folder))
    assert text_encoder("t5-11b").encode(["a red ball"])[0].shape == (4, 16)


def test_from_a_diffusers_pipeline(folder: Path, tmp_path: Path, encoder: T5Encoder) -> None:
    for part, names in {
        "text_encoder": ("config.json", "model.safetensors"),
        "tokenizer": ("tokenizer.json", "tokenizer_config.json"),
    }.items():
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / name).write_bytes((folder / name).read_bytes())
    found = T5Encoder(tmp_path).encode(["two blue box"])[0]
    np.testing.assert_array_equal(found, encoder.encode(["two blue box"])[0])


def test_no_weights(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"text_encoder=t5-11b: no weights in .*{FOLDER}"):
        T5Encoder(tmp_path)
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")  # pickled weights are not an answer
    assert json.loads((tmp_path / "config.json").read_text())["d_model"] == 16
    with pytest.raises(ValueError, match="no weights in"):
        T5Encoder(tmp_path)


def test_an_overflow_is_an_error(encoder: T5Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = encoder.model.encoder.final_layer_norm
    monkeypatch.setattr(norm, "weight", torch.nn.Parameter(norm.weight * 1e6))
    with pytest.raises(ValueError, match="not finite in fp16"):
        encoder.encode(["a red ball"])
