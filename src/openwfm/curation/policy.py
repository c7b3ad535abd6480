"""The policy: which measured clips are kept, how often they are drawn; nothing is measured here.

Deciding is separate from measuring, so another policy needs no second look at the video.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from openwfm.curation.record import Clip

CONTENT = "content_"  # a tag of this prefix names the clip's content category
EXCLUDED = "content"  # the reason that `exclude_content` gives


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Keeps clips whose ``score`` is in [min, max], and not among the lowest of the set.

    ``drop_lowest`` is a share: clips below that quantile go, counted over the clips that all
    rules before this one kept. Clips that equal the quantile stay, so at most the share goes.
    """

    score: str
    min: float | None = None
    max: float | None = None
    drop_lowest: float | None = None

    def __post_init__(self) -> None:
        limits = {"min": self.min, "max": self.max, "drop_lowest": self.drop_lowest}
        if not self.score or not isinstance(self.score, str):
            raise ValueError(f"score={self.score!r}: must be the name of a score")
        for name, value in limits.items():
            if value is not None and not _is_number(value):
                raise ValueError(f"{name}={value!r}: must be a finite number")
        if all(value is None for value in limits.values()):
            raise ValueError(f"score={self.score}: one of min, max and drop_lowest must be given")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min={self.min}: must be at most max={self.max}")
        if self.drop_lowest is not None and not 0 < self.drop_lowest < 1:
            raise ValueError(f"drop_lowest={self.drop_lowest}: must be between 0 and 1 (a share)")

    def failures(self, values: Sequence[float]) -> dict[int, str]:
        """Position of each value that fails → why, in words. A value that is no number fails."""
        least = self._quantile(values)
        found = {}
        for position, value in enumerate(values):
            if math.isnan(value):
                found[position] = f"{self.score} is not a number"
            elif self.min is not None and value < self.min:
                found[position] = f"{self.score}={value:.6g} below {self.min:g}"
            elif self.max is not None and value > self.max:
                found[position] = f"{self.score}={value:.6g} above {self.max:g}"
            elif value < least:
                found[position] = (
                    f"{self.score}={value:.6g} in the lowest {self.drop_lowest:g} "
                    f"(below {least:.6g})"
                )
        return found

    def _quantile(self, values: Sequence[float]) -> float:
        numbers = sorted(value for value in values if not math.isnan(value))
        if self.drop_lowest is None or not numbers:
            return -math.inf
        return numbers[math.floor(self.drop_lowest * len(numbers))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True)
class DedupConfig:
    """``copies`` is the largest distance (1 - cosine) of clips that aligned thumbnails may then
    confirm to be one film, differently encoded, scaled, lit or trimmed. ``epsilon`` is that of
    embeddings below which clips are too much alike, and ``target_fraction`` the share of clips to
    remove for being alike, instead of it; None: only copies go.

    Of each group the clip stays that comes first by ``prefer``: scores, larger first, then the
    place in the input.
    """

    copies: float = 0.05
    epsilon: float | None = None
    target_fraction: float | None = None
    prefer: tuple[str, ...] = ("source_side", "technical")

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefer", tuple(self.prefer))
        for name in ("copies", "epsilon"):
            value = getattr(self, name)
            if (value is not None or name == "copies") and not (
                _is_number(value) and 0 <= value <= 0.5
            ):
                raise ValueError(f"policy.dedup.{name}={value}: must be in [0, 0.5] (1 - cosine)")
        share = self.target_fraction
        if share is not None and not (_is_number(share) and 0 <= share < 1):
            raise ValueError(f"policy.dedup.target_fraction={share}: must be in [0, 1) (a share)")
        if self.epsilon is not None and share is not None:
            raise ValueError(
                f"policy.dedup.target_fraction={share}: must be null when policy.dedup.epsilon="
                f"{self.epsilon} is given"
            )


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Rules by the reason that they give, applied in order: the first that fails is the reason.

    ``exclude_content`` names content categories that are dropped (reason ``content``);
    ``weights`` are relative sampling weights of categories, 1 where nothing is said. A clip's
    category is what its tag ``content_…`` names.
    """

    rules: Mapping[str, Rule]
    exclude_content: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    dedup: DedupConfig = field(default_factory=DedupConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", {k: _rule(k, v) for k, v in self.rules.items()})
        object.__setattr__(self, "exclude_content", tuple(self.exclude_content))
        if EXCLUDED in self.rules:
            raise ValueError(f"policy.rules.{EXCLUDED}: is the reason of policy.exclude_content")
        for category, weight in self.weights.items():
            if not _is_number(weight) or weight <= 0:
                raise ValueError(
                    f"policy.weights.{category}={weight}: must be above 0 "
                    "(to drop a category, name it in policy.exclude_content)"
                )

    def verdicts(self, clips: Sequence[Clip]) -> list[tuple[str, str] | None]:
        """Reason and detail for each clip that is dropped, None for each that stays.

        Raises ValueError when a rule asks for a score that a clip does not have.
        """
        verdicts: list[tuple[str, str] | None] = [None] * len(clips)
        alive = list(range(len(clips)))
        for reason, rule in self.rules.items():
            values = [self._value(reason, rule, clips[position]) for position in alive]
            failed = rule.failures(values)
            for at, detail in failed.items():
                verdicts[alive[at]] = reason, detail
            alive = [position for at, position in enumerate(alive) if at not in failed]
        for position in alive if self.exclude_content else ():
            category = self._category(clips[position])
            if category in self.exclude_content:
                verdicts[position] = EXCLUDED, str(category)
        return verdicts

    def weight(self, clip: Clip) -> float:
        """Raises ValueError when there are weights but the clip has no content category."""
        return float(self.weights.get(self._category(clip), 1.0)) if self.weights else 1.0

    @staticmethod
    def _value(reason: str, rule: Rule, clip: Clip) -> float:
        if rule.score not in clip.scores:
            raise ValueError(
                f"policy.rules.{reason}.score={rule.score}: clip {clip.name} has no such score; "
                f"known: {', '.join(sorted(clip.scores)) or 'none'}"
            )
        return clip.scores[rule.score]

    def _category(self, clip: Clip) -> str:
        category = content_category(clip)
        if category is None:
            key = "weights" if self.weights else "exclude_content"
            raise ValueError(
                f"policy.{key}: clip {clip.name} has no tag {CONTENT}…; "
                f"its tags: {', '.join(clip.tags) or 'none'}"
            )
        return category


def content_category(clip: Clip) -> str | None:
    found = (tag.removeprefix(CONTENT) for tag in clip.tags if tag.startswith(CONTENT))
    return next(found, None)


def _rule(reason: str, values: Rule | Mapping[str, Any]) -> Rule:
    """From a table of YAML. Raises ValueError naming the key."""
    if isinstance(values, Rule):
        return values
    known = [item.name for item in fields(Rule)]
    if not isinstance(values, Mapping):
        raise ValueError(f"policy.rules.{reason}={values}: must be a table of {', '.join(known)}")
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"policy.rules.{reason}.{unknown[0]}: unknown key; valid keys: {', '.join(known)}"
        )
    if "score" not in values:
        raise ValueError(f"policy.rules.{reason}.score: missing")
    try:
        return Rule(**values)
    except ValueError as error:
        raise ValueError(f"policy.rules.{reason}.{error}") from None
