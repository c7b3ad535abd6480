"""Provenance, samples, throughput: what a run leaves beside its weights."""

from __future__ import annotations

import json
import subprocess

import av
import lightning as L
import pytest
import torch
import wandb
from lightning.pytorch.loggers import WandbLogger

from openwfm.callbacks import EMA, Provenance, SampleVideos, Throughput
from openwfm.data.batch import VideoBatch
from openwfm.files import read_json
from openwfm.provenance import code_state, machine, package_versions
from openwfm.video import read_provenance, read_video


def test_provenance_has_one_session_per_start(tmp_path, fit):
    for _ in range(2):
        fit([Provenance(folder=str(tmp_path))], max_steps=1)
    sessions = read_json(tmp_path / "provenance.json")["sessions"]
    assert len(sessions) == 2
    session = sessions[0]
    assert session["seed"] == 7 and session["data_manifest_sha256"] == "ab" * 32
    assert session["packages"]["torch"] == torch.__version__
    assert session["device"] == "cpu" and session["machine"]["cores"] >= 1
    if session["uncommitted_file"]:
        assert (tmp_path / session["uncommitted_file"]).is_file()


def test_machine_tells_nothing_personal():
    import getpass
    import socket

    text = json.dumps(machine())
    assert socket.gethostname() not in text and f'"{getpass.getuser()}"' not in text
    assert "python" in package_versions()


def test_code_state_sees_commits_and_changes(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    assert code_state(tmp_path).commit is None
    git("init", "-q")
    (tmp_path / "a.py").write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "one")
    clean = code_state(tmp_path)
    assert clean.commit and len(clean.commit) == 40 and clean.diff_sha256 is None
    (tmp_path / "a.py").write_text("2\n")
    (tmp_path / "new.py").write_text("3\n")
    dirty = code_state(tmp_path)
    assert "+2" in dirty.diff and "new.py" in dirty.diff and dirty.diff_sha256
    assert dirty.commit == clean.commit


def test_samples_are_written_on_time_and_readable(tmp_path, fit):
    fit([EMA(), SampleVideos(folder=str(tmp_path), every_n_steps=8, num_videos=2)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step_0000008.mp4",
        "step_0000008.png",
        "step_0000016.mp4",
        "step_0000016.png",
    ]
    video, fps = read_video(tmp_path / "step_0000008.mp4")
    assert video.shape == (5, 32, 34, 3) and fps == 24
    assert read_provenance(tmp_path / "step_0000008.mp4")["rows"] == ["real", "generated"]
    with av.open(str(tmp_path / "step_0000008.png")) as picture:
        image = next(picture.decode(video=0))
    assert (image.height, image.width) == (4 * 18 - 2, 3 * 17 - 1)  # 2 clips x 2 rows, 3 frames


def test_samples_do_not_move_the_training(tmp_path, fit):
    _, plain = fit([])
    _, watched = fit([SampleVideos(folder=str(tmp_path), every_n_steps=3)])
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, watched.weights, strict=True))


def test_samples_come_from_the_validation_batch_when_there_is_one(tmp_path, fit):
    callback = SampleVideos(folder=str(tmp_path), every_n_steps=20, num_videos=1)
    fit([callback], val_check_interval=5, limit_val_batches=1)
    assert isinstance(callback._batch, VideoBatch) and len(callback._batch) == 1


def test_samples_refuse_a_module_without_them(tmp_path):
    with pytest.raises(ValueError, match="has no sample_videos"):
        SampleVideos(folder=str(tmp_path)).setup(
            L.Trainer(logger=False), L.LightningModule(), "fit"
        )


@pytest.mark.parametrize("key", ["every_n_steps", "num_videos"])
def test_samples_reject_bad_values(tmp_path, key):
    with pytest.raises(ValueError, match=f"callbacks.samples.{key}=0"):
        SampleVideos(folder=str(tmp_path), **{key: 0})


def test_throughput_counts_samples(fit):
    _, recorder = fit([Throughput(window=10)])
    assert recorder.metrics["perf/samples_per_second"] > 3
    assert 0 <= recorder.metrics["perf/data_wait_share"] <= 1
    with pytest.raises(ValueError, match="window=0"):
        Throughput(window=0)


def test_wandb_offline_run_holds_videos_and_metrics(tmp_path, fit, monkeypatch):
    """Read the offline run back with W&B's own reader."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    logger = WandbLogger(save_dir=str(tmp_path), project="test", offline=True, log_model=False)
    callbacks = [Throughput(), SampleVideos(folder=str(tmp_path / "samples"), every_n_steps=4)]
    fit(callbacks, logger=logger, max_steps=8, log_every_n_steps=2)
    logger.experiment.finish()
    wandb.teardown()  # only when its service has stopped is all of the file written
    rows = wandb_rows(next(tmp_path.glob("wandb/offline-run-*/run-*.wandb")))
    kinds = [row["samples/videos._type"] for row in rows if "samples/videos._type" in row]
    assert kinds == ["video-file", "video-file"]
    assert any("perf/samples_per_second" in row for row in rows)
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/videos/**/*.mp4"))) == 2


def wandb_rows(path):
    """History rows of a .wandb file: a LevelDB log (7 bytes of header, blocks of 32 KiB)."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts, rows = path.read_bytes(), 7, b"", []
    while position + 7 <= len(data):
        left_in_block = 32768 - position % 32768
        if left_in_block < 7:
            position += left_in_block
            continue
        length, kind = (
            int.from_bytes(data[position + 4 : position + 6], "little"),
            data[position + 6],
        )
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            items = record.history.item
            rows.append({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items})
    return rows
