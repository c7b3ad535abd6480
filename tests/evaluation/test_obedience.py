"""The reader of colour and number: drawn pictures, noise, the simulator, and a world that obeys."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.data.batch import VideoBatch
from openwfm.evaluation.obedience import (
    CEILING,
    CHANCE,
    GENERATED,
    HUES,
    NUMBERS,
    REAL,
    Demand,
    chance,
    colour_names,
    evaluate_obedience,
    hue,
    label,
    read_frames,
    read_video,
)
from openwfm.simulation.bodies import COLOURS
from openwfm.simulation.looks import BACKGROUNDS, TABLES
from openwfm.world import Sampling

SPOTS = [(10, 10), (10, 40), (40, 10), (40, 40)]


def draw(colours: Sequence[str], ground: Sequence[float] = (0.55, 0.42, 0.32)) -> torch.Tensor:
    """Squares on a plain ground, RGB in 0..1, ``3 h w``."""
    picture = torch.tensor(ground).float()[:, None, None].repeat(1, 64, 64)
    for (row, column), colour in zip(SPOTS, colours, strict=False):
        picture[:, row : row + 9, column : column + 9] = torch.tensor(COLOURS[colour])[
            :, None, None
        ]
    return picture


def video(picture: torch.Tensor, frames: int = 9) -> torch.Tensor:
    return (2 * picture - 1)[:, None].repeat(1, frames, 1, 1)


def test_hues_are_those_of_the_simulator() -> None:
    for name, degrees in HUES.items():
        assert 360 * colorsys.rgb_to_hsv(*COLOURS[name])[0] == pytest.approx(degrees, abs=6)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.1, 5))
def test_hue_is_near_that_of_hsv_whatever_the_light(
    r: float, g: float, b: float, light: float
) -> None:
    """The angle about the grey axis and HSV's hexagon differ by 1.2 degrees at most."""
    if max(r, g, b) - min(r, g, b) < 1e-3:
        return
    found = hue(light * torch.tensor([[r, g, b]], dtype=torch.float64))
    away = (float(found) - 360 * colorsys.rgb_to_hsv(r, g, b)[0] + 180) % 360 - 180
    assert abs(away) < 1.2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_regions_against_a_flood_fill(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((2, 9, 7)) < share
    found = label(torch.from_numpy(mask)).numpy()
    assert ((found > 0) == mask).all()
    for picture, regions in zip(mask, found, strict=True):
        left, seen = {(int(y), int(x)) for y, x in np.argwhere(picture)}, set()
        while left:
            region, stack = set(), [left.pop()]
            while stack:
                y, x = stack.pop()
                region.add((y, x))
                near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
                left -= near
                stack += near
            numbers = {int(regions[spot]) for spot in region}
            assert len(numbers) == 1 and not numbers & seen
            seen |= numbers


@pytest.mark.parametrize("colour", HUES)
@pytest.mark.parametrize("ground", [*TABLES.values(), *BACKGROUNDS])
def test_drawn_squares_on_every_ground(colour: str, ground: tuple[float, ...]) -> None:
    for number in range(5):
        for light in (0.6, 1.0):
            picture = light * draw([colour] * number, ground)
            assert read_frames(picture[None]) == [(colour,) * number]


def test_mixed_colours_are_counted_each() -> None:
    assert read_frames(draw(["red", "blue", "red"])[None]) == [("blue", "red", "red")]
    assert colour_names(torch.tensor([COLOURS[name] for name in HUES])) == list(HUES)


def test_specks_and_noise_are_no_objects() -> None:
    picture = draw(["green"])
    picture[:, 60:63, 60:63] = torch.tensor(COLOURS["red"])[:, None, None]
    noise = 0.05 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert read_frames((picture + noise).clamp(0, 1)[None]) == [("green",)]
    grey = torch.rand(1, 1, 64, 64).expand(1, 3, 64, 64)
    assert read_frames(grey) == [()]


def test_most_frames_decide() -> None:
    clip = video(draw(["red", "red"]), 17)
    clip[:, 0] = 2 * draw(["red"]) - 1
    assert read_video(clip) == ("red", "red")


@pytest.mark.parametrize(
    "prompt, wanted",
    [
        ("Two red balls stand still on a plain grey table.", Demand(2, "red")),
        ("On a sage table, one Cyan box stands still.", Demand(1, "cyan")),
        ("four yellow cylinders", Demand(4, "yellow")),
    ],
)
def test_prompts(prompt: str, wanted: Demand) -> None:
    assert Demand.of(prompt) == wanted


@pytest.mark.parametrize("prompt", ["", "a red ball", "two balls", "two red balls, one blue box"])
def test_prompts_that_ask_for_nothing_countable(prompt: str) -> None:
    with pytest.raises(ValueError, match="must say once how many objects"):
        Demand.of(prompt)


def test_verdicts_are_strict() -> None:
    want = Demand(2, "red")
    assert want.judge(("red", "red")) == {"colour": True, "number": True, "both": True}
    assert want.judge(("red",)) == {"colour": True, "number": False, "both": False}
    assert want.judge(("blue", "red")) == {"colour": False, "number": True, "both": False}
    assert want.judge(()) == {"colour": False, "number": False, "both": False}


def test_chance_of_all_prompts_is_one_in_their_number() -> None:
    """One video for each of 24 prompts, each perfect: no other prompt has both right."""
    demands = [Demand(number, colour) for number in NUMBERS.values() for colour in HUES]
    rows = chance(demands, [(d.colour,) * d.number for d in demands])
    assert all(row["both"] == 0 for row in rows)
    assert all(row["colour"] == pytest.approx(3 / 23) for row in rows)
    assert all(row["number"] == pytest.approx(5 / 23) for row in rows)


class Obedient:
    """Draws what the text says: (number, colour) as two numbers; wrong every fifth time."""

    def predict(
        self, frames: None, *, text: torch.Tensor, num_frames: int, **_: Any
    ) -> torch.Tensor:
        names = list(HUES)
        return torch.stack(
            [video(draw([names[int(t[0, 1])]] * int(t[0, 0])), num_frames) for t in text]
        )

    def reconstruct(self, videos: torch.Tensor) -> torch.Tensor:
        return videos

    def settings(self, sampling: Sampling) -> dict[str, Any]:
        return {}


def batches(wrong: int) -> list[VideoBatch]:
    names, found = list(HUES), []
    for number, word in enumerate(NUMBERS, start=1):
        texts = torch.tensor([[[number, i]] for i in range(6)]).float()
        if number == 1:
            texts[:wrong, 0, 0] = 2
        found.append(
            VideoBatch(
                key=tuple(f"{word}-{name}" for name in names),
                fps=torch.full((6,), 24.0),
                caption=tuple(f"{word} {name} balls stand still" for name in names),
                video=torch.stack([video(draw([name] * number)) for name in names]),
                text=texts,
            )
        )
    return found


def test_a_world_that_obeys_and_one_that_errs() -> None:
    world: Any = Obedient()
    report = evaluate_obedience(world, batches(0), sampling=Sampling(), num_examples=2)
    assert report.num_in == report.num_evaluated == 24 and len(report.examples) == 2
    for row in (GENERATED, REAL, CEILING):
        assert [report.rows[row][m].mean for m in ("colour", "number", "both")] == [1, 1, 1]
    assert report.rows[CHANCE]["both"].mean == 0
    assert report.rows[CHANCE]["colour"].mean == pytest.approx(3 / 23)
    erring = evaluate_obedience(world, batches(6), sampling=Sampling())
    both = erring.rows[GENERATED]["both"]
    assert both.mean == pytest.approx(0.75) and both.low < 0.75 < both.high
    assert erring.rows[GENERATED]["colour"].mean == 1
    assert erring.to_json()["rows"][GENERATED]["number"]["num_values"] == 24
    assert erring.differences[f"{GENERATED} - {CHANCE}"]["both"].low > 0


def test_what_is_not_finite_is_rejected() -> None:
    world: Any = SimpleNamespace(
        predict=lambda *_, text, num_frames, **__: torch.full(
            (len(text), 3, num_frames, 64, 64), torch.nan
        ),
        reconstruct=lambda videos: videos,
        settings=lambda _: {},
    )
    with pytest.raises(ValueError, match="none of 24 clips"):
        evaluate_obedience(world, batches(0), sampling=Sampling())


def test_films_of_the_simulator_are_read_right() -> None:
    """Thirty clips: none wrong means an error below one in ten with 95 % confidence."""
    pytest.importorskip("mujoco")
    from openwfm.simulation.render import choose_backend
    from openwfm.simulation.table import TableConfig

    try:
        backend = choose_backend()
    except RuntimeError as error:
        pytest.skip(str(error))
    world = TableConfig(scenarios=("group",), still=1.0, num_frames=25).open(91, backend)
    for index in range(30):
        clip = world.film(index)
        frames = torch.from_numpy(clip.views["main"][:17:8].copy()).permute(3, 0, 1, 2) / 127.5 - 1
        verdict = Demand.of(clip.captions["main"]).judge(read_video(frames))
        assert verdict["both"], (index, clip.captions)
    world.close()
