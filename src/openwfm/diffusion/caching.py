"""Steps that are predicted instead of computed: an approximation, off by default.

Between neighbouring noise levels the blocks of a trained network change their input by nearly the
same amount. While the first block's modulated input has changed little since the last computed
step (the measure of TeaCache, arXiv 2411.19108, without its fitted polynomial), that amount is
continued along the straight line through the last two computed ones.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


class StepCache:
    """Of one run. ``threshold`` bounds the relative changes (mean absolute, over mean absolute)
    of the signal, summed over the steps since the last computed one."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.computed = self.predicted = 0
        self._drift = 0.0
        self._signal: Tensor | None = None
        self._known: list[tuple[float, Tensor]] = []

    def predict(
        self, signal: Float[Tensor, "b n d"], level: float, branches: int
    ) -> Float[Tensor, "r b n d"] | None:
        """What the blocks would add at ``level`` to each of ``branches``; None: compute it and
        :meth:`store` it."""
        before, self._signal = self._signal, signal
        known = [(at, change) for at, change in self._known if len(change) == branches]
        if before is None or before.shape != signal.shape or not known:
            return None
        self._drift += float((signal - before).abs().mean() / before.abs().mean())
        if self._drift > self.threshold:
            return None
        self.predicted += 1
        at, change = known[-1]
        if len(known) == 1:
            return change
        earlier, start = known[0]
        return start.lerp(change, (level - earlier) / (at - earlier))

    def store(self, change: Float[Tensor, "r b n d"], level: float) -> None:
        self.computed += 1
        self._drift = 0.0
        kept = [entry for entry in self._known if entry[0] != level]
        self._known = [*kept, (level, change)][-2:]
