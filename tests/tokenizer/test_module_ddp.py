"""Two processes train one tokenizer against one discriminator: DDP on gloo."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from openwfm.data.batch import VideoBatch
from openwfm.nn.schedule import warmup_cosine
from openwfm.tokenizer import TokenizerConfig
from openwfm.tokenizer.discriminator import AdversarialConfig
from openwfm.tokenizer.module import TokenizerModule
from openwfm.tokenizer.objective import ReconstructionConfig

NUM_STEPS, NUM_RANKS = 4, 2


def module(*, freeze: bool) -> TokenizerModule:
    """Spectral norm has buffers, R1 a second derivative: both are in what DDP has to bear."""
    return TokenizerModule(
        net=TokenizerConfig(channels=8, channels_mult=(1, 1, 1), num_res_blocks=1),
        objective=ReconstructionConfig(perceptual=0.0),
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-3),
        scheduler=functools.partial(warmup_cosine, warmup_steps=2, max_steps=50),
        freeze_encoder=freeze,
        discriminator=AdversarialConfig(
            channels=4, warmup_steps=1, loss="relativistic", r1=0.1, r2=0.1, r1_every=2
        ),
        seed=3,
    )


def batches(rank: int) -> list[VideoBatch]:
    """Other clips on every rank, and an image batch among them."""
    generator = torch.Generator().manual_seed(rank)
    return [
        VideoBatch(
            key=(f"{rank}_{step}",),
            fps=torch.full((1,), 24.0),
            video=torch.rand(1, 3, 1 if step == 1 else 9, 16, 16, generator=generator) * 2 - 1,
        )
        for step in range(NUM_STEPS)
    ]


def train(folder: Path, *, freeze: bool) -> None:
    """What each of the two processes runs; leaves the weights it ends with."""
    trained = module(freeze=freeze)
    trainer = Trainer(
        max_steps=NUM_STEPS,
        accelerator="cpu",
        devices=NUM_RANKS,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    rank = int(os.environ["LOCAL_RANK"])
    trainer.fit(trained, DataLoader(batches(rank), batch_size=None))
    assert trainer.global_step == NUM_STEPS and trainer.world_size == NUM_RANKS
    torch.save(trained.state_dict(), folder / f"{freeze}{rank}.pt")


@pytest.mark.dist
def test_both_ranks_end_with_the_same_weights(tmp_path: Path) -> None:
    """With the encoder frozen and without, in the same two processes: they are slow to start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(NUM_RANKS), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)],
            env=shared | {"LOCAL_RANK": str(rank), "RANK": str(rank), "NODE_RANK": "0"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(NUM_RANKS)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * NUM_RANKS, "\n".join(errors)
    for freeze in (False, True):
        ends = [torch.load(tmp_path / f"{freeze}{r}.pt", weights_only=True) for r in (0, 1)]
        start = module(freeze=freeze)
        start.configure_model()
        before, moved = start.state_dict(), set()
        for name, value in ends[0].items():
            assert torch.equal(value, ends[1][name]), name
            if not torch.equal(value, before[name]):
                moved.add(".".join(name.split(".")[:2]))
        assert {"tokenizer.decoder", "discriminator.levels", "discriminator.head"} <= moved
        assert ("tokenizer.encoder" in moved) is not freeze


if __name__ == "__main__":
    for frozen in (False, True):
        train(Path(sys.argv[1]), freeze=frozen)
