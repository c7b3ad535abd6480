"""Time shares: exclusive, restored afterwards, and complete."""

import time
from types import SimpleNamespace

import pytest

from openwfm.benchmarks import clock as module
from openwfm.benchmarks.clock import Clock


def test_inner_time_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def inner() -> None:
        now[0] += 2

    def outer() -> str:
        now[0] += 3
        tools.inner()
        now[0] += 1
        return "done"

    tools = SimpleNamespace(inner=inner, outer=outer)
    clock = Clock()
    with clock.watch(tools, "inner", "b"), clock.watch(tools, "outer", "a"):
        assert tools.outer() == "done"
        tools.inner()
        now[0] += 5
    assert clock.seconds == {"a": 4.0, "b": 4.0}
    assert clock.shares(13.0) == pytest.approx({"a": 4 / 13, "b": 4 / 13, "other": 5 / 13})
    assert tools.inner is inner and tools.outer is outer


def test_an_error_passes_through_and_the_function_is_restored() -> None:
    def fails() -> None:
        raise KeyError("x")

    tools, clock = SimpleNamespace(fails=fails), Clock()
    with pytest.raises(KeyError), clock.watch(tools, "fails", "a"):
        tools.fails()
    assert tools.fails is fails
    with clock.timing("b"):
        time.sleep(0.01)
    assert clock.seconds["b"] >= 0.01
