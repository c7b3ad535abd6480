"""Generation from the outside: what goes in, what comes out, what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from openwfm.files import read_json, write_json
from openwfm.video import read_provenance, read_video, to_uint8, write_video
from openwfm.world import World


@pytest.fixture(scope="module")
def world(run_folder) -> World:
    return World.load(run_folder)


@pytest.fixture
def clip() -> torch.Tensor:
    """20 frames, each of one grey, so that a frame tells its number."""
    return torch.linspace(-0.9, 0.9, 20)[None, :, None, None].expand(3, 20, 32, 32).contiguous()


def test_the_last_nine_frames_are_continued(world, clip):
    generation = world.generate(frames=clip)
    assert generation.video.shape == (3, 17, 32, 32) and generation.fps == 24
    assert torch.equal(generation.video[:, :9], clip[:, -9:])
    assert generation.provenance["condition"] == {"frames": 9, "latent_frames": 2}
    assert generation.video.abs().max() <= 1 and generation.guardrails is None


@pytest.mark.parametrize(("available", "taken"), [(1, 1), (8, 1), (9, 9), (16, 9), (17, 9)])
def test_fewer_frames_give_fewer_conditions(world, clip, available, taken):
    generation = world.generate(frames=clip[:, :available])
    assert generation.provenance["condition"]["frames"] == taken
    assert torch.equal(generation.video[:, :taken], clip[:, available - taken : available])


def test_the_seed_decides(world, clip):
    first, again, other = (world.generate(frames=clip, seed=seed).video for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first[:, 9:], other[:, 9:])


def test_the_global_generator_is_left_alone(world, clip):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    world.generate(frames=clip, prompt="a ball")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_prompt_and_guidance_reach_the_model(world, clip):
    silent = world.generate(frames=clip).video
    asked = world.generate(frames=clip, prompt="a red ball rolls").video
    guided = world.generate(frames=clip, prompt="a red ball rolls", guidance=5.0).video
    assert not torch.equal(silent, asked) and not torch.equal(asked, guided)


def test_num_frames_and_steps(world, clip):
    generation = world.generate(frames=clip, num_frames=25, num_steps=2)
    assert generation.video.shape[1] == 25
    assert generation.provenance["sampler"]["num_steps"] == 2


def test_saved_file_carries_its_provenance(world, clip, tmp_path, run_folder):
    source = tmp_path / "in.mp4"
    write_video(source, to_uint8(clip), 12.0)
    generation = world.generate(frames=source, prompt="a ball", seed=5)
    generation.save(tmp_path / "out.mp4")
    video, fps = read_video(tmp_path / "out.mp4")
    assert video.shape == (17, 32, 32, 3) and fps == 12.0  # of the input, not of training
    facts = read_provenance(tmp_path / "out.mp4")
    assert facts["synthetic"] is True and facts["seed"] == 5 and facts["prompt"] == "a ball"
    assert facts["condition"]["file"] == "in.mp4" and len(facts["condition"]["file_sha256"]) == 64
    assert set(facts["weights_sha256"]) == {"world", "tokenizer"}
    assert facts["packages"]["torch"] == torch.__version__
    assert str(tmp_path) not in json.dumps(facts), "a file that is passed on names no folders"


def test_other_sizes_are_cropped_and_resized(world):
    frames = torch.zeros(3, 9, 48, 80)
    generation = world.generate(frames=frames)
    assert generation.video.shape == (3, 17, 32, 32)
    assert generation.provenance["condition"]["resized_from"] == [48, 80]


def test_batches_and_single_clips_agree(world, clip):
    """Sample 0 depends on the seed, not on its companions."""
    frames = torch.stack([clip[:, :9], -clip[:, :9]])
    options = {"text": None, "num_frames": 17, "seed": 3, "sampling": world_sampling()}
    both = world.predict(frames, fps=torch.full((2,), 24.0), **options)
    one = world.predict(frames[:1], fps=torch.full((1,), 24.0), **options)
    torch.testing.assert_close(both[0], one[0], atol=1e-4, rtol=1e-4)


def world_sampling():
    from openwfm.world import Sampling

    return Sampling()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": None}, "frames: missing"),
        ({"frames": torch.zeros(9, 32, 32)}, r"shape \(9, 32, 32\): must be \(3, frames"),
        ({"frames": torch.zeros(3, 0, 32, 32)}, "holds 0 frames"),
        ({"frames": torch.zeros(3, 9, 32, 32, dtype=torch.uint8)}, "must be float"),
        ({"frames": torch.full((3, 9, 32, 32), 255.0)}, r"in \[-1, 1\]"),
        ({"frames": torch.full((3, 9, 32, 32), torch.nan)}, "must be finite"),
        ({"frames": "nowhere.mp4"}, "nowhere.mp4: no such file"),
        ({"num_frames": 16}, r"num_frames=16: must be 1 \+ 8·n"),
        ({"num_frames": 1}, "nothing is left to generate"),
        ({"guidance": -1.0}, "guidance=-1.0"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"fps": 0.0}, "fps=0.0"),
    ],
)
def test_mistakes_are_named(world, arguments, words):
    with pytest.raises(ValueError, match=words):
        world.generate(**{"frames": torch.zeros(3, 9, 32, 32), **arguments})


def test_long_prompts_are_cut_with_a_warning(world, clip):
    with pytest.warns(UserWarning, match="this world reads the first 32"):
        world.generate(frames=clip, prompt="ball " * 60)


def test_worlds_without_data_facts_ask_for_them(publish_world, tmp_path, clip):
    world = World.load(publish_world(tmp_path, data=False))
    with pytest.raises(ValueError, match="num_frames: missing"):
        world.generate(frames=clip)
    with pytest.raises(ValueError, match="fps: missing"):
        world.generate(frames=clip, num_frames=17)
    assert world.generate(frames=clip, num_frames=17, fps=24).video.shape == (3, 17, 32, 32)


def test_worlds_that_need_no_frames(publish_world, tmp_path):
    world = World.load(publish_world(tmp_path, min_frames=0))
    generation = world.generate(prompt="a ball")
    assert generation.video.shape == (3, 17, 32, 32)
    assert generation.provenance["condition"] == {"frames": 0}


def test_loading_names_what_is_wrong(publish_world, tmp_path):
    with pytest.raises(ValueError, match="neither a run folder"):
        World.load(tmp_path)
    with pytest.raises(ValueError, match="kind=tokenizer: must be world"):
        World.load(publish_world(tmp_path) / "weights" / "tokenizer")
    config = tmp_path / "weights" / "config.json"
    write_json(config, {**read_json(config), "family": "magic"})
    with pytest.raises(ValueError, match="family=magic: must be one of: diffusion"):
        World.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer/model.safetensors"])
def test_truncated_weights_are_named(publish_world, tmp_path, name):
    file = publish_world(tmp_path) / "weights" / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{name}: not a whole safetensors file"):
        World.load(tmp_path)
