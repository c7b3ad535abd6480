"""Long videos: chunks that are chained in latent space."""

from __future__ import annotations

import random
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from openwfm.commands import generate as generate_command
from openwfm.config import compose
from openwfm.diffusion import model as diffusion_model
from openwfm.diffusion.config import SOLVERS
from openwfm.shapes import Frames, LatentFrames
from openwfm.video import read_provenance, write_video
from openwfm.world import Sampling, World
from openwfm.world.long import STATISTICS, Chunking, chain, one_pass, plan_chunks

BUILT_IN = [kind for kind in SOLVERS if kind in ("euler", "heun", "res_2ab")]


def L(count: int) -> LatentFrames:
    return LatentFrames(count)


@pytest.fixture
def world(publish_world, tmp_path) -> World:
    world = World.load(publish_world(tmp_path))
    generator = torch.Generator().manual_seed(0)
    world.model.set_latent_statistics(  # first, second and later frames: all different
        torch.randn(4, 3, generator=generator), torch.rand(4, 3, generator=generator) + 0.5
    )
    return world


@pytest.fixture(scope="module")
def footage() -> torch.Tensor:
    """49 frames (7 latent ones) that change all the time."""
    t = torch.arange(49)[:, None, None] / 9
    y, x = torch.meshgrid(torch.arange(32) / 7, torch.arange(32) / 5, indexing="ij")
    parts = [(t + y * (1 + c) + x).sin() * (t * (c + 1) / 3).cos() for c in range(3)]
    return torch.stack(parts) * 0.9


def with_oracle(world: World, latents: torch.Tensor, chunks, chunking, monkeypatch) -> None:
    """Denoising by who knows the whole video: whatever the noise, chunk n gets its own frames."""
    made = world.model.generate_latents
    calls = []

    def numbered(**options):
        calls.append(options)
        return made(**options)

    def oracle(net, x, sigma, condition, sigma_data):
        start = int(chunks[len(calls) - 1].start)
        clip = latents[:, :, start : start + x.shape[2]]
        # The last chunk is longer than the video.
        clip = torch.nn.functional.pad(clip, (0, 0, 0, 0, 0, x.shape[2] - clip.shape[2]))
        known = world.model.normalise(clip, int(chunks[len(calls) - 1].columns(chunking)))
        return known.repeat(len(x) // len(known), 1, 1, 1, 1)

    monkeypatch.setattr(world.model, "generate_latents", numbered)
    monkeypatch.setattr(diffusion_model, "denoise", oracle)


@pytest.mark.parametrize("kind", BUILT_IN)
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("overlap", [1, 2])
def test_chunks_of_a_perfect_denoiser_join_exactly(
    world, footage, monkeypatch, kind, statistics, overlap
):
    """The result is the whole video decoded in one piece, whatever the solver and the overlap."""
    world.model.sampler = replace(world.model.sampler, kind=kind, guidance=0.0)
    latents = world.tokenizer.encode(footage[None])
    chunking = Chunking(overlap=overlap, statistics=statistics)
    chunks = world.chunks(49, Sampling(chunking=chunking))
    assert len(chunks) == {1: 3, 2: 5}[overlap]
    with_oracle(world, latents, chunks, chunking, monkeypatch)
    made = world.generate(frames=footage[:, :9], num_frames=49, chunking=chunking)
    expected = world.tokenizer.decode(latents)[0].clamp(-1, 1)
    torch.testing.assert_close(made.video[:, 9:], expected[:, 9:], atol=1e-5, rtol=0)
    assert torch.equal(made.video[:, :9], footage[:, :9])
    assert made.provenance["chunks"] == {
        "overlap": overlap,
        "condition_sigmas": (),
        "statistics": statistics,
        "count": len(chunks),
        "latent_frames": 3,
    }


def test_the_first_chunk_is_the_short_video(world, footage):
    short = world.generate(frames=footage[:, :9], num_frames=17, seed=3)
    long = world.generate(frames=footage[:, :9], num_frames=41, seed=3)
    assert short.provenance["chunks"] is None and long.provenance["chunks"]["count"] == 4
    torch.testing.assert_close(long.video[:, :17], short.video, atol=1e-5, rtol=0)
    again = world.generate(frames=footage[:, :9], num_frames=41, seed=3)
    assert torch.equal(long.video, again.video)
    other = world.generate(frames=footage[:, :9], num_frames=41, seed=4)
    assert not torch.equal(long.video[:, 17:], other.video[:, 17:])


def test_each_chunk_draws_its_own_noise_at_its_own_level(world, footage, monkeypatch):
    calls = []
    made = world.model.generate_latents

    def seen(**options):
        calls.append(options)
        return made(**options)

    monkeypatch.setattr(world.model, "generate_latents", seen)
    world.generate(frames=footage[:, :9], num_frames=33)
    assert {call["sampler"].condition_sigma for call in calls} == {0.001}
    calls.clear()
    chunking = Chunking(condition_sigmas=(0.1, 0.3))
    world.generate(frames=footage[:, :9], num_frames=49, seed=7, chunking=chunking)
    assert [call["sampler"].condition_sigma for call in calls] == [0.001, 0.1, 0.3, 0.3, 0.3]
    assert calls[0]["seed"] == 7 and len({call["seed"] for call in calls}) == 5
    assert [call["start"] for call in calls] == [0, 1, 2, 3, 4]
    assert all(call["num_latent_frames"] == 3 for call in calls)


def test_a_prompt_rules_from_its_chunk_on(world, footage):
    options = {"frames": footage[:, :9], "num_frames": 41}
    made = [
        world.generate(prompts=prompts, **options)
        for prompts in (["a ball"], ["a ball", "a ball", "a red box"], ["a ball"] * 4)
    ]
    assert made[1].provenance["prompts"] == ["a ball", "a ball", "a red box"]
    assert torch.equal(made[0].video, made[2].video)
    assert torch.equal(made[0].video[:, :25], made[1].video[:, :25])
    assert not torch.equal(made[0].video[:, 25:], made[1].video[:, 25:])
    single = world.generate(prompt="a ball", **options)
    assert torch.equal(single.video, made[0].video)


def test_batches_and_single_clips_agree(world, footage):
    clips = torch.stack((footage[:, :9], -footage[:, :9]))
    options = {"text": None, "num_frames": 33, "seed": 3, "sampling": Sampling()}
    both = world.predict(clips, fps=torch.full((2,), 24.0), **options)
    one = world.predict(clips[:1], fps=torch.full((1,), 24.0), **options)
    assert both.shape == (2, 3, 33, 32, 32)
    torch.testing.assert_close(both[0], one[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(both[:, :, :9], clips)


def test_memory_does_not_grow_with_the_video(world):
    """Two hundred chunks: one is alive at a time, and the decoder's state keeps its size."""
    alive: list[weakref.ref] = []
    most = 0

    def sample(chunk, given):
        nonlocal most
        assert given is None or given.shape[2] == 2
        latents = torch.randn(1, 4, 3, 4, 4)
        if given is not None:
            assert given.untyped_storage().nbytes() == given.nbytes, "a view keeps its chunk"
        alive.append(weakref.ref(latents))
        most = max(most, sum(ref() is not None for ref in alive))
        return latents

    chunks = plan_chunks(L(202), window=L(3), overlap=L(2), limit=L(2))
    assert len(chunks) == 200
    decoder, states, frames = world.tokenizer.stream_decoder(), set(), 0
    for number, latents in enumerate(chain(chunks, sample, None)):
        if number < 12:
            frames += decoder.push(latents).shape[2]
            states.add(decoder.num_state_elements)
    assert frames == 1 + 8 * 13 and most <= 3
    window = world.tokenizer.config.attention_window
    assert window is None or len(states) == 1


def test_plans_cover_the_video_once():
    draw = random.Random(0)
    for _ in range(300):
        window = draw.randint(2, 20)
        overlap = draw.randint(1, window - 1)
        total = draw.randint(window, 200)
        plan = plan_chunks(L(total), window=L(window), overlap=L(overlap), limit=L(window))
        covered = []
        for chunk in plan:
            first = int(chunk.start + chunk.overlap)
            covered += range(first, first + int(chunk.new))
            assert chunk.length == L(window) and chunk.overlap + chunk.new <= chunk.length
        assert covered == list(range(total))
        assert all(b.start + L(overlap) == a.start + a.overlap + a.new for a, b in pairwise(plan))
    assert plan_chunks(L(5), window=L(5), overlap=L(1), limit=L(1)) == [one_pass(L(5))]
    with pytest.raises(TypeError, match="do not mix"):
        plan_chunks(L(9), window=Frames(3), overlap=L(2), limit=L(2))


def test_chaining_hands_on_what_was_yielded():
    """Also where a chunk adds less than the next one is given; given frames pass untouched."""
    video = torch.arange(40.0).view(1, 1, 40, 1, 1)
    for window, overlap in ((3, 2), (5, 4), (5, 1), (8, 3)):
        plan = plan_chunks(L(33), window=L(window), overlap=L(overlap), limit=L(window))

        def sample(chunk, given, overlap=overlap):
            start = int(chunk.start)
            if chunk.number:
                assert torch.equal(given, video[:, :, start : start + overlap])
            made = video[:, :, start : start + int(chunk.length)].clone()
            made[:, :, : int(chunk.overlap)] += 0.1  # must go nowhere
            return made

        joined = torch.cat(list(chain(plan, sample, video[:, :, :1])), dim=2)
        assert torch.equal(joined, video[:, :, :33])


def test_one_latent_frame_may_begin_chunks_that_are_given_two(world, footage):
    made = world.generate(frames=footage[:, :1], num_frames=41)
    assert torch.equal(made.video[:, :1], footage[:, :1])
    assert made.provenance["chunks"]["overlap"] == 2


def test_worlds_begin_from_text_and_go_on(publish_world, tmp_path):
    world = World.load(publish_world(tmp_path / "a", min_frames=0))
    assert world.generate(prompt="a ball", num_frames=33).video.shape == (3, 33, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chunking": Chunking(overlap=3)}, "overlap=3: must be between 1 and 2"),
        ({"chunking": Chunking(overlap=0)}, "overlap=0: must be between 1 and 2"),
        ({"chunking": Chunking(), "num_frames": 17}, "num_frames=17 is one pass of this world"),
        ({"prompts": ["a"] * 5}, "prompts: 5 given: must be at least 1 and at most 4"),
        ({"prompts": []}, "prompts: 0 given"),
        ({"prompts": "a ball"}, "prompts: must be a list"),
        ({"prompts": ["a"], "prompt": "b"}, "prompts: must be a list.*stand alone"),
        ({"prompts": ["a", "b"], "num_frames": 17}, "prompts: 2 given: must be .* at most 1"),
        ({"num_frames": 40}, r"num_frames=40: must be 1 \+ 8·n"),
    ],
)
def test_mistakes_are_named(world, footage, arguments, words):
    with pytest.raises(ValueError, match=words):
        world.generate(**{"frames": footage[:, :9], "num_frames": 41, **arguments})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"overlap": 1.5}, "overlap=1.5: must be a whole number"),
        ({"overlap": True}, "overlap=True"),
        ({"overlap": Frames(9)}, "overlap=9"),
        ({"condition_sigmas": 0.3}, "condition_sigmas=0.3: must be a list"),
        ({"condition_sigmas": (0.0,)}, "condition_sigmas"),
        ({"condition_sigmas": ("a",)}, "condition_sigmas"),
        ({"condition_sigmas": (float("nan"),)}, "condition_sigmas"),
        ({"statistics": "mean"}, "statistics=mean: must be one of absolute, relative"),
    ],
)
def test_bad_chunking_is_named(values, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Chunking(**values)


def test_worlds_of_one_pass_refuse_chunks(world):
    assert World.chunks(world, 999, Sampling()) == []
    with pytest.raises(ValueError, match="chunking: this world makes every video in one pass"):
        World.chunks(world, 999, Sampling(chunking=Chunking()))


def test_the_command(run_folder, tmp_path, capsys):
    clip, out = tmp_path / "clip.mp4", tmp_path / "long.mp4"
    write_video(clip, torch.full((9, 32, 32, 3), 90, dtype=torch.uint8), 24)
    overrides = [f"run={run_folder}", f"frames={clip}", f"out={out}", "num_frames=33"]
    overrides += ["prompts=['a ball, rolling','it stops']", "overlap=1", "condition_sigmas=[0.3]"]
    assert generate_command.main(compose("generate", overrides)) == 0
    assert "33 frames (9 given, 2 chunks)" in capsys.readouterr().out
    facts = read_provenance(out)
    assert facts["prompts"] == ["a ball, rolling", "it stops"]
    assert facts["chunks"]["overlap"] == 1 and facts["chunks"]["condition_sigmas"] == [0.3]
    for override, words in (
        ("statistics=mean", "statistics=mean"),
        ("prompts=one", "prompts: must be a list"),
        ("overlap=half", "overlap=half"),
        ("condition_sigmas=[-1]", "condition_sigmas"),
    ):
        with pytest.raises(ValueError, match=words):
            generate_command.main(compose("generate", [*overrides, override]))
