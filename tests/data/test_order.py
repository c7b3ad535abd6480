from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.data.order import BatchOrder, sample_index, split_sources


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 60), epoch=st.integers(0, 5))
def test_every_epoch_visits_each_sample_once(seed: int, size: int, epoch: int) -> None:
    positions = range(epoch * size, (epoch + 1) * size)
    assert sorted(sample_index(seed, p, size) for p in positions) == list(range(size))


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 50), batch=st.integers(1, 9), step=st.integers(0, 200))
def test_a_resumed_order_continues_where_it_stopped(size: int, batch: int, step: int) -> None:
    whole = BatchOrder(size=size, batch_size=batch, seed=3)
    resumed = BatchOrder(size=size, batch_size=batch, seed=3, first_step=step)
    assert list(itertools.islice(whole, step, step + 5)) == list(itertools.islice(resumed, 5))


@given(ranks=st.sampled_from([1, 2, 4]), step=st.integers(0, 50))
def test_the_global_batch_does_not_depend_on_the_number_of_processes(ranks: int, step: int) -> None:
    whole = BatchOrder(size=37, batch_size=8, seed=1).batch(step)
    parts = [
        BatchOrder(size=37, batch_size=8 // ranks, seed=1, rank=r, num_ranks=ranks).batch(step)
        for r in range(ranks)
    ]
    assert list(itertools.chain(*parts)) == whole


@given(
    simulated=st.integers(0, 40),
    natural=st.integers(0, 4),
    seed=st.integers(0, 100),
)
def test_no_source_is_in_two_splits_and_none_is_lost(
    simulated: int, natural: int, seed: int
) -> None:
    kinds = {f"s{i}": "simulated" for i in range(simulated)}
    kinds |= {f"n{i}": "natural" for i in range(natural)}
    splits = split_sources(kinds, (0.8, 0.1, 0.1), seed)
    assert set(splits) == set(kinds)
    for kind in ("simulated", "natural"):
        own = [splits[s] for s in kinds if kinds[s] == kind]
        if len(own) >= 3:
            assert {"train", "val", "test"} <= set(own)


def test_the_split_does_not_depend_on_the_order_of_sources() -> None:
    kinds = {f"s{i}": "simulated" for i in range(20)}
    backwards = dict(reversed(kinds.items()))
    assert split_sources(kinds, (0.8, 0.1, 0.1), 5) == split_sources(backwards, (0.8, 0.1, 0.1), 5)
