"""`openwfm simulate` as a user types it."""

from pathlib import Path

import pytest

from openwfm.cli import main
from openwfm.data.shards import ShardIndex


def test_raw_takes(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"out={tmp_path}", "num_takes=1", "workers=1", "supersample=1", "size=32"]
    assert main(["simulate", "footage", *arguments]) == 0
    assert (tmp_path / "raw" / "take_0000.mp4").is_file()
    assert "filmed 1 takes" in capsys.readouterr().out
    assert main(["simulate", "footage", *arguments]) == 0
    assert "all 1 takes are there" in capsys.readouterr().out


@pytest.mark.parametrize("world", ["physics", "rooms", "manipulation", "driving", "table"])
def test_shards_and_long_takes(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], world: str
) -> None:
    size = ["world.width=32", "world.height=32", "world.supersample=1"]
    arguments = [f"world={world}", *size, "num_clips=2", "workers=1"]
    assert main(["simulate", *arguments, f"out={tmp_path}/shards", "text_encoder=null"]) == 0
    index = ShardIndex.open(tmp_path / "shards")
    index.verify()
    assert f"{len(index)} kept, {2 - len(index)} rejected" in capsys.readouterr().out
    for key in index.keys:
        assert index.metadata(key)["world"] == world and index.metadata(key)["caption"]
    assert main(["simulate", *arguments, f"out={tmp_path}/takes", "footage=true"]) == 0
    assert len(list((tmp_path / "takes" / "raw").glob("*.mp4"))) == 1
    assert main(["simulate", *arguments, f"out={tmp_path}/takes", "footage=true"]) == 0
    assert "all 1 takes are there" in capsys.readouterr().out


def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "world=phisics", f"out={tmp_path}"]) != 0
    assert "nearest: physics" in capsys.readouterr().err
    assert main(["simulate", "world=physics", f"out={tmp_path}", "world.fps=0"]) != 0
    assert "fps=0" in capsys.readouterr().err
