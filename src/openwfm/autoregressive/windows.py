"""Videos longer than the network's window: window after window, each from the last frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from openwfm.autoregressive.runtime import DecodingConfig


@dataclass(frozen=True)
class Window:
    """``carried`` latent frames are its prompt, at positions from 0; it makes ``made`` more."""

    carried: int
    made: int


def plan_windows(given: int, total: int, longest: int, keep: int) -> list[Window]:
    """From ``given`` to ``total`` latent frames, at most ``longest`` at once.

    The first window takes all frames given that leave room for one more, the others carry over
    the last ``keep``. Raises ValueError when nothing is to be made, or nothing can be.
    """
    if total <= given:
        raise ValueError(f"num_latent_frames={total}: must be above the {given} given")
    if total > longest and not 1 <= keep < longest:
        raise ValueError(
            f"decoding.keep={keep}: must be in 1..{longest - 1} for {total} latent frames, below "
            f"the {longest} of net.grid"
        )
    found: list[Window] = []
    at = given
    while at < total:
        carried = at if not found and at < longest else keep
        found.append(Window(carried, min(longest - carried, total - at)))
        at += found[-1].made
    return found


def kept_frames(decoding: DecodingConfig | None, trained: int, longest: int) -> int:
    """Frames that windows carry over: as ``decoding`` says, else what training gives at most."""
    if decoding is not None and decoding.keep is not None:
        return decoding.keep
    return max(1, min(trained, longest - 1))


def described(windows: list[Window], longest: int) -> dict[str, object]:
    """For provenance: nothing of a video that one window holds."""
    if len(windows) < 2:
        return {}
    return {
        "sliding_window": {
            "latent_frames": longest,
            "windows": [asdict(window) for window in windows],
            "positions": "restart in every window, which begins with its carried latent frames",
        }
    }
