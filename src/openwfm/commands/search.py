"""``openwfm search in=SHARDS query=…``: the nearest clips, as a table and as a contact sheet."""

from __future__ import annotations

from omegaconf import DictConfig

from openwfm.config import build


def main(config: DictConfig) -> int:
    """Print the nearest clips and say where the page is; returns 0, or 1 when there is no clip."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from openwfm.curation.search import SearchConfig, run_search

    request = build(config.search)
    assert isinstance(request, SearchConfig)
    hits = run_search(request)
    table = Table(title=Text(request.query or str(request.clip)))
    for column in ("score", "clip", "caption"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", Text(hit.key), Text(hit.caption))
    Console().print(table)
    if request.out is not None:
        print(request.out)
    return 0 if hits else 1
