"""The stage contract: nothing is omitted, counts add up, one failure does not spread."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.pipeline import Filter, Pipeline
from openwfm.curation.record import (
    Clip,
    Record,
    RejectedError,
    Source,
    clip_from_json,
    source_from_json,
    to_json,
)

SOURCE = Source(id="s", path="p", num_bytes=1)


class Make:
    name = "make"
    accepts = Source

    def __init__(self, count: int) -> None:
        self.count = count

    def setup(self) -> None: ...

    def process(self, record: Record) -> list[Record]:
        clips = [
            Clip(
                source="s",
                path="p",
                start_frame=i,
                end_frame=i + 1,
                start_seconds=i,
                end_seconds=i + 1,
            )
            for i in range(self.count)
        ]
        return [record, *clips]


class Fail:
    """Fails on chosen clips, each in one of the ways that a stage may fail."""

    name = "fail"
    accepts = Clip

    def __init__(self, on: set[int]) -> None:
        self.on, self.seen = on, []

    def setup(self) -> None: ...

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip)
        self.seen.append(record.start_frame)
        if record.start_frame in self.on:
            raise (
                RejectedError("bad", "x")
                if record.start_frame % 2
                else FileNotFoundError(2, "gone")
            )
        return [replace(record, fps=1.0)]


@settings(deadline=None)
@given(st.integers(0, 12), st.sets(st.integers(0, 11)))
def test_every_record_comes_out_once(count: int, bad: set[int]) -> None:
    fail, late = (
        Fail(bad),
        Filter(name="late", decide=lambda c: ("late", "") if c.start_frame > 8 else None),
    )
    pipeline = Pipeline([Make(count), fail, late])
    accounts = pipeline.accounts()
    records = list(pipeline.run(SOURCE, accounts))
    assert records[0] == SOURCE
    assert [r.start_frame for r in records[1:]] == list(range(count)) == fail.seen
    for clip in records[1:]:
        failed = clip.start_frame in bad
        assert (clip.rejection is not None) == (failed or clip.start_frame > 8)
        if failed:
            assert clip.rejection.stage == "fail"
    assert accounts["make"].created == count and accounts["make"].passed == count + 1
    assert accounts["fail"].received == count
    assert accounts["fail"].passed == accounts["late"].received
    assert sum(account.rejected for account in accounts.values()) == sum(
        r.rejection is not None for r in records
    )


def test_our_own_mistakes_are_not_swallowed() -> None:
    class Wrong(Fail):
        def process(self, record: Record) -> list[Record]:
            raise KeyError("a bug")

    pipeline = Pipeline([Make(1), Wrong(set())])
    with pytest.raises(KeyError):
        list(pipeline.run(SOURCE, pipeline.accounts()))


def test_records_survive_json() -> None:
    from openwfm.curation.record import Caption, Rejection, Transition, VideoFacts

    facts = VideoFacts(
        width=1, height=2, fps=3.0, num_frames=4, seconds=5.0, codec="h264", pixel_format="yuv420p",
        rotation=90, pixel_aspect=1.0, variable_fps=True,
    )  # fmt: skip
    source = replace(
        SOURCE, facts=facts, transitions=(Transition(start=1, end=2, cut=2, probability=0.5),)
    )
    assert source_from_json(to_json(source)) == source
    clip = Clip(
        source="s", path="ü.mp4", start_frame=0, end_frame=1, start_seconds=0, end_seconds=1,
        scores={"a": 0.5}, tags=("x",), captions=(Caption(text="t", source="rules"),),
        rejection=Rejection(stage="a", reason="b", detail="c"),
    )  # fmt: skip
    assert clip_from_json(to_json(clip)) == clip
    with pytest.raises(ValueError, match=r"record\.schema=9: must be 1"):
        clip_from_json(to_json(clip) | {"schema": 9})
