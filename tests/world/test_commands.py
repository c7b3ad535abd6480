"""``openwfm generate`` and ``openwfm evaluate`` on a world with random weights."""

from __future__ import annotations

import pytest
import torch

from openwfm.commands import evaluate as evaluate_command
from openwfm.commands import generate as generate_command
from openwfm.config import ConfigError, compose
from openwfm.evaluation.config import EvaluateConfig
from openwfm.evaluation.run import evaluate_run
from openwfm.files import read_json
from openwfm.video import read_provenance, read_video, write_video


def test_generate_writes_a_video(run_folder, tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    write_video(clip, torch.full((12, 40, 60, 3), 90, dtype=torch.uint8), 24)
    out = tmp_path / "future.mp4"
    config = compose(
        "generate",
        [f"run={run_folder}", f"frames={clip}", "prompt='a ball, rolling'", f"out={out}", "seed=4"],
    )
    assert generate_command.main(config) == 0
    assert read_video(out)[0].shape == (17, 32, 32, 3)
    facts = read_provenance(out)
    assert facts["prompt"] == "a ball, rolling" and facts["seed"] == 4
    assert facts["condition"]["resized_from"] == [40, 60]
    assert "17 frames (9 given)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("out=future.avi", "out=future.avi: must end in .mp4"),
        ("num_frames=many", "num_frames=many: must be a whole number"),
        ("guidance=strong", "guidance=strong: must be a number"),
        ("seed=1.5", "seed=1.5: must be a whole number"),
    ],
)
def test_generate_names_bad_values(run_folder, override, words):
    config = compose("generate", [f"run={run_folder}", "out=x.mp4", override])
    with pytest.raises(ValueError, match=words):
        generate_command.main(config)


@pytest.mark.parametrize(
    ("verb", "override", "words"),
    [
        ("generate", "promt=x", "nearest valid key: prompt"),
        ("evaluate", "num_clip=3", "nearest valid key: num_clips"),
        ("report", "num_clip=3", "nearest valid key: num_clips"),
    ],
)
def test_typos_name_the_nearest_key(verb, override, words):
    with pytest.raises(ConfigError, match=words):
        compose(verb, [override])


def test_evaluate_a_world(run_folder, tiny_shards, tmp_path, capsys):
    out = tmp_path / "found"
    overrides = [f"run={run_folder}", f"shards={tiny_shards}", f"out={out}", "kinds=[simulated]"]
    assert evaluate_command.main(compose("evaluate", overrides)) == 0
    found = read_json(out / "evaluation.json")
    assert found["kind"] == "futures" and found["future_frames"] == 8
    assert set(found["rows"]) == {
        "world model",
        "copy last frame",
        "tokenizer reconstruction",
        "mean video",
    }
    assert found["rows"]["copy last frame"]["psnr"]["mean"] > 10
    assert "copy last frame" in capsys.readouterr().out
    assert read_video(out / found["examples"][0]["video"])[0].shape == (17, 32, 66, 3)


def test_evaluation_regenerates_from_its_seed(run_folder, tiny_shards, tmp_path):
    def rows(name, seed):
        config = EvaluateConfig(
            run=str(run_folder), shards=str(tiny_shards), out=str(tmp_path / name), seed=seed
        )
        evaluate_run(config)
        return (tmp_path / name / "clips.csv").read_text()

    assert rows("a", 0) == rows("b", 0) != rows("c", 1)
