"""Messages of a page, and messages of nobody."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.world.server.config import PlayConfig
from openwfm.world.server.visit import MessageError, Visit
from tests.world.toy_session import dots


def visit(branches: int = 3, history: int = 5) -> Visit:
    return Visit([dots(1, seed=s) for s in range(3)], max_branches=branches, max_history=history)


def act(x: float, y: float) -> str:
    return json.dumps({"do": "act", "action": [x, y]})


def test_forks_go_their_own_ways_and_keep_their_past() -> None:
    here = visit()
    here.handle(act(1, 0))
    here.handle('{"do": "fork"}')
    assert here.facts() == {"branch": 1, "branches": 2, "scene": 0, "steps": 1}
    right = here.handle(act(1, 0))
    here.handle('{"do": "switch", "branch": 0}')
    left = here.handle(act(-1, 0))
    assert not torch.equal(left, right)
    assert torch.equal(here.handle('{"do": "switch", "branch": 1}'), right)
    clips = []
    for number in range(2):
        here.handle(json.dumps({"do": "switch", "branch": number}))
        clips.append(here.clip())
    assert torch.equal(clips[0][:2], clips[1][:2])
    assert not torch.equal(clips[0][2], clips[1][2])


def test_a_reset_begins_anew_at_the_same_place() -> None:
    here = visit()
    first = here.clip()[0]
    here.handle(act(1, 1))
    here.handle('{"do": "fork"}')
    assert torch.equal(here.handle('{"do": "reset"}'), first)
    assert here.facts() == {"branch": 0, "branches": 1, "scene": 0, "steps": 0}
    here.handle('{"do": "reset", "scene": 2}')
    assert here.facts()["scene"] == 2


def test_history_and_branches_are_bounded_and_actions_clamped() -> None:
    here, other = visit(), visit()
    for _ in range(9):
        here.handle(act(0, 0))
    assert len(here.clip()) == 5
    here.handle('{"do": "fork"}')
    here.handle('{"do": "fork"}')
    with pytest.raises(MessageError, match="3 branches"):
        here.handle('{"do": "fork"}')
    here = visit()
    assert torch.equal(here.handle(act(99, -1e300)), other.handle(act(1, -1)))


BAD = [
    "", "{", "[]", "null", "1", '"act"', "{}", '{"do": "dance"}', '{"do": "act"}',
    '{"do": ["act"]}',
    '{"do": "act", "action": [1]}', '{"do": "act", "action": [1, 2, 3]}',
    '{"do": "act", "action": [1, "2"]}', '{"do": "act", "action": [1, NaN]}',
    '{"do": "act", "action": [1, Infinity]}', '{"do": "act", "action": [1, true]}',
    '{"do": "act", "action": [1, 1' + "0" * 400 + "]}",
    '{"do": "act", "action": {"0": 1}}', '{"do": "reset", "scene": 3}',
    '{"do": "reset", "scene": -1}', '{"do": "reset", "scene": 1.5}',
    '{"do": "reset", "scene": true}',
    '{"do": "switch", "branch": 1}', '{"do": "switch", "branch": "0"}', "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_nonsense_is_an_error_and_changes_nothing(text: str) -> None:
    here = visit()
    before = here.facts()
    with pytest.raises(MessageError):
        here.handle(text)
    assert here.facts() == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.fixed_dictionaries(
    {"do": st.sampled_from(["act", "reset", "fork", "switch"]) | json_values},
    optional={"action": json_values, "scene": json_values, "branch": json_values},
).map(json.dumps))  # fmt: skip
def test_any_text_is_handled_or_refused(text: str) -> None:
    here = visit()
    try:
        frame = here.handle(text)
    except MessageError:
        return
    assert frame.dtype == torch.uint8


@pytest.mark.parametrize(
    "values",
    [{"frames": ()}, {"port": 70000}, {"max_sessions": 0}, {"idle_seconds": 0}, {"zoom": 1.5}],
)
def test_settings_that_make_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        PlayConfig(**{"run": "run", "frames": ("a.mp4",), **values})  # type: ignore[arg-type]
