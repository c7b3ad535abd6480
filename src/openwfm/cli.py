"""``openwfm VERB [hydra overrides]``: one verb a file in `openwfm.commands`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

# Two torch processes that spin on the same cores slow each other down fifteen-fold; this must be
# set before torch starts its threads. A benchmark has the machine to itself and measures what
# others do by default: threads that sleep between small operations cost a quarter of its time.
if sys.argv[1:2] != ["bench"]:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Without a fixed hash seed, third-party iteration over sets may differ between two runs.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

VERBS = {
    "simulate": "film raw footage with MuJoCo (openwfm simulate footage out=…)",
    "curate": "raw videos → shards (openwfm curate in=… out=…)",
    "search": "clips by words or by example (openwfm search in=SHARDS query=…)",
    "convert": "robot datasets and tokenizer weights (openwfm convert tokenizer from=… to=…)",
    "train": "train a tokenizer or a world model (openwfm train experiment=…)",
    "tokenize": "videos or shards to latents, and back (openwfm tokenize in=… out=…)",
    "generate": "a future of a clip (openwfm generate run=… frames=… prompt=… out=…)",
    "play": "drive a world on a local page (openwfm play run=… frames=[…])",
    "evaluate": "metrics on held-out clips, beside baselines (openwfm evaluate run=…)",
    "bench": "speed and memory on this machine (openwfm bench simulation)",
    "report": "one self-contained page of a whole world (openwfm report in=…)",
}

# Other words for a key; `data` names a config group, so Hydra would look for a choice of it.
ALIASES = {
    "evaluate": {"data": "in"},
    "convert": {"from": "in", "to": "out"},
}

USAGE = """openwfm VERB [key=value …]

{verbs}

openwfm VERB --help        the keys of a verb, and the choices of each config group
openwfm VERB --cfg job     the composed config, without running
openwfm VERB -m key=1,2    a sweep
OPENWFM_TRACEBACK=1        show where an error was raised
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for a mistake of the user."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE.format(verbs="\n".join(f"  {v:<10}{text}" for v, text in VERBS.items())))
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        import difflib

        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"; nearest: {close[0]}" if close else f"; one of: {', '.join(VERBS)}"
        print(f"error: openwfm {verb}: no such verb{hint}", file=sys.stderr)
        return 2
    if rest and "=" not in rest[0] and not rest[0].startswith(("-", "+", "~")):
        rest[0] = f"kind={rest[0]}"  # `openwfm simulate footage …`
    rest = [_renamed(verb, item) for item in rest]
    return guarded(lambda: run(verb, rest))


def _renamed(verb: str, override: str) -> str:
    key, equals, value = override.partition("=")
    return f"{ALIASES.get(verb, {}).get(key, key)}{equals}{value}"


def guarded(action: Callable[[], int]) -> int:
    """Show a user's mistake as one sentence; anything else is our bug and keeps its traceback."""
    try:
        return action()
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        if os.environ.get("OPENWFM_TRACEBACK"):
            raise
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 2


def run(verb: str, arguments: list[str]) -> int:
    """Check the command line, then let Hydra run the verb (once, or once a sweep job)."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    from openwfm.config import check, check_overrides, config_folder

    flags = [item for item in arguments if item.startswith("-")]
    overrides = [item for item in arguments if not item.startswith("-") and "=" in item]
    if "--help" not in flags and "-h" not in flags:
        check_overrides(verb, overrides)
    command = importlib.import_module(f"openwfm.commands.{verb}")
    if verb == "train" and (resumed := command.resumed_config(overrides)) is not None:
        return int(command.main(resumed))
    status: list[int] = []

    def task(config: DictConfig) -> None:
        choices = HydraConfig.get().runtime.choices
        check(config, verb, {str(key): str(value) for key, value in choices.items()})
        resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        status.append(guarded(lambda: int(command.main(resolved))))
        if status[-1]:
            sys.exit(status[-1])

    sys.argv = [f"openwfm {verb}", *arguments]
    decorate = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)
    try:
        decorate(_guard_task(task))()
    except SystemExit as stop:
        return int(stop.code or 0)
    return max(status, default=0)


def _guard_task(task: Callable[..., None]) -> Callable[..., None]:
    def guarded_task(config: object) -> None:
        def action() -> int:
            task(config)
            return 0

        status = guarded(action)
        if status:
            sys.exit(status)

    return guarded_task


if __name__ == "__main__":
    sys.exit(main())
