"""``evaluate_run`` on a tokenizer with random weights, over real shards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml

from openwfm.evaluation.config import EvaluateConfig, ReportConfig
from openwfm.evaluation.run import evaluate_run
from openwfm.files import read_json
from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.video import read_provenance, read_video
from openwfm.weights import plain, save_weights


@pytest.fixture(scope="module")
def tokenizer_run(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    net = TokenizerConfig(
        channels=8, channels_mult=(1, 1, 1), num_res_blocks=1, z_channels=4, latent_channels=4
    )
    run = tmp_path_factory.mktemp("run")
    config = plain({"kind": "tokenizer", "net": asdict(net), "data": {"num_frames": 17, "seed": 0}})
    save_weights(run / "weights", config, VideoTokenizer(net).state_dict())
    return run


def test_a_tokenizer_run_is_measured_and_shown(tokenizer_run, tiny_shards):
    out, report = evaluate_run(
        EvaluateConfig(run=str(tokenizer_run), shards=str(tiny_shards), num_examples=1)
    )
    found = read_json(out / "evaluation.json")
    assert out == tokenizer_run / "evaluation" and found["kind"] == "reconstruction"
    assert found["num_evaluated"] == report.num_evaluated == 2  # one source, two clips of 25 frames
    assert found["rows"]["tokenizer"]["psnr"]["num_groups"] == 2
    assert found["split"] == "test" and len(found["weights_sha256"]) == 64
    example = out / found["examples"][0]["video"]
    video, fps = read_video(example)
    assert video.shape == (17, 32, 66, 3) and fps == 24
    assert read_provenance(example)["shows"] == "left: real, right: made by a model"
    assert (out / "strip.png").is_file() and (out / "clips.csv").is_file()
    assert found["examples"][0]["caption"].startswith("A square moves")


def test_the_same_seed_gives_the_same_numbers(tokenizer_run, tiny_shards, tmp_path):
    def rows(name, **values):
        config = EvaluateConfig(
            run=str(tokenizer_run),
            shards=str(tiny_shards),
            split="train",
            num_clips=5,
            out=str(tmp_path / name),
            **values,
        )
        out, _ = evaluate_run(config)
        return read_json(out / "evaluation.json")["rows"], (out / "clips.csv").read_text()

    assert rows("a") == rows("b")
    assert rows("a")[1] != rows("c", seed=1)[1]
    for one, other in zip(rows("a")[0].values(), rows("d", batch_size=2)[0].values(), strict=True):
        assert one["psnr"]["mean"] == pytest.approx(other["psnr"]["mean"], abs=1e-3)


def test_the_run_says_which_data_it_held_out(tokenizer_run, tiny_shards, tmp_path):
    """config.yaml of the run wins over what its weights say."""
    data = {
        "_target_": "openwfm.data.config.DataConfig",
        "shards": str(tiny_shards),
        "seed": 3,
        "num_frames": 9,
        "text": "required",
        "latents": "somewhere",
    }
    (tokenizer_run / "config.yaml").write_text(yaml.safe_dump({"data": {"config": data}}))
    try:
        out, _ = evaluate_run(EvaluateConfig(run=str(tokenizer_run), out=str(tmp_path)))
        found = read_json(out / "evaluation.json")
        assert read_video(out / found["examples"][0]["video"])[0].shape[0] == 9
        (tokenizer_run / "config.yaml").write_text("data: [")
        with pytest.raises(ValueError, match="config.yaml: has no readable data.config"):
            evaluate_run(EvaluateConfig(run=str(tokenizer_run), out=str(tmp_path)))
    finally:
        (tokenizer_run / "config.yaml").unlink()


def test_mistakes_are_named(tokenizer_run, tiny_shards, tmp_path):
    with pytest.raises(ValueError, match="shards: missing"):
        evaluate_run(EvaluateConfig(run=str(tokenizer_run)))
    save_weights(tmp_path / "other", {"kind": "cat"}, {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="kind=cat: must be tokenizer or world"):
        evaluate_run(EvaluateConfig(run=str(tmp_path / "other"), shards=str(tiny_shards)))
    save_weights(tmp_path / "t", {"kind": "tokenizer"}, {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="out: missing"):
        evaluate_run(EvaluateConfig(run=str(tmp_path / "t"), shards=str(tiny_shards)))
    with pytest.raises(ValueError, match="num_frames=33: longer than every clip"):
        evaluate_run(EvaluateConfig(run=str(tokenizer_run), shards=str(tiny_shards), num_frames=33))


@pytest.mark.parametrize(
    "values", [{"split": "all"}, {"num_clips": 0}, {"num_steps": "many"}, {"num_examples": -1}]
)
def test_bad_values(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))}="):
        EvaluateConfig(run="r", **values)
    with pytest.raises(ValueError, match="out=page.pdf: must end in .html"):
        ReportConfig(world="w", out="page.pdf")
