"""Several folders of shards together: the same clips, and splits that do not move."""

from pathlib import Path

import pytest

from openwfm.data.config import DataConfig
from openwfm.data.datamodule import ShardDataModule
from openwfm.data.shardset import ShardSet
from openwfm.simulation import film
from openwfm.simulation.config import SimulationConfig
from openwfm.simulation.film import film_world
from tests.simulation.toy import ToyConfig


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("shards")
    original, film.choose_backend = film.choose_backend, lambda: "none"
    for seed, name in enumerate(("first", "second")):
        config = SimulationConfig(
            out=str(root / name), num_clips=20 + 10 * seed, seed=seed, text_encoder=None
        )
        film_world(config, ToyConfig())
    film.choose_backend = original
    return str(root / "first"), str(root / "second")


def module(*shards: str, seed: int = 5) -> ShardDataModule:
    folders = shards[0] if len(shards) == 1 else shards
    config = DataConfig(shards=folders, num_frames=9, batch_size=4, kinds=("simulated",), seed=seed)
    return ShardDataModule(config=config)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("seed", range(5))
def test_held_out_clips_stay_held_out(folders: tuple[str, str], split: str, seed: int) -> None:
    both = set(module(*folders, seed=seed).keys(split))
    apart = [set(module(folder, seed=seed).keys(split)) for folder in folders]
    assert both == apart[0] | apart[1] and apart[0] and apart[1]


def test_batches_hold_clips_of_both(folders: tuple[str, str]) -> None:
    joined = module(*folders)
    keys = [set(ShardSet.open([folder]).keys) for folder in folders]
    seen: set[str] = set()
    for _, batch in zip(range(10), joined.train_dataloader(), strict=False):
        seen |= set(batch.key)
    assert seen & keys[0] and seen & keys[1] and seen <= keys[0] | keys[1]


def test_the_identity_covers_every_folder(folders: tuple[str, str]) -> None:
    hashes = {module(*f).manifest_sha256 for f in ((folders[0],), (folders[1],), folders)}
    assert len(hashes) == 3
    assert ShardSet.open(folders[:1]).manifest_sha256 == module(folders[0]).manifest_sha256


def test_what_is_refused(folders: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one or more different folders"):
        DataConfig(shards=(folders[0], folders[0]))
    with pytest.raises(ValueError, match="one or more different folders"):
        DataConfig(shards=())
    import shutil

    shutil.copytree(folders[0], tmp_path / "copy")
    with pytest.raises(ValueError, match=r"data\.shards: clip \w+ is in .*first and in .*copy"):
        ShardSet.open([folders[0], str(tmp_path / "copy")])
