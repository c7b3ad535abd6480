"""The server over its real protocol, and the page in a real browser where there is one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openwfm.video import read_video
from openwfm.world.server.app import Server
from openwfm.world.server.config import PlayConfig
from tests.world.toy_session import SIDE, dots

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
ACT = json.dumps({"do": "act", "action": [1, 0]})


def server(**values: Any) -> Server:
    config = PlayConfig(**{"run": "toy", "frames": ("toy",), **values})
    return Server([dots(1, seed=s) for s in range(2)], config, title="a dot")


def client(**values: Any) -> Any:
    from fastapi.testclient import TestClient

    return TestClient(server(**values).app())


def receive(socket: Any) -> tuple[dict[str, Any], np.ndarray]:
    from PIL import Image

    info = json.loads(socket.receive_text())
    return info, np.asarray(Image.open(io.BytesIO(socket.receive_bytes())))


def test_one_message_one_picture_and_a_clip_at_the_end(tmp_path: Path) -> None:
    page = client()
    assert "openwfm play" in page.get("/").text
    facts = page.get("/facts").json()
    assert facts["actions"]["names"] == ["dx", "dy"]
    assert (facts["rows"], facts["columns"], facts["scenes"]) == (SIDE, SIDE, 2)
    with page.websocket_connect("/visit") as socket:
        info, first = receive(socket)
        assert info["steps"] == 0
        assert first.shape == (SIDE, SIDE, 3)
        for step in range(1, 4):
            socket.send_text(ACT)
            info, frame = receive(socket)
            assert info["steps"] == step
        assert not np.array_equal(first, frame)
        reply = page.get(f"/clip/{info['token']}.mp4")
        (tmp_path / "clip.mp4").write_bytes(reply.content)
        video, fps = read_video(tmp_path / "clip.mp4", last=99)
        assert (len(video), fps) == (4, 5.0)
    assert page.get(f"/clip/{info['token']}.mp4").status_code == 404
    assert page.get("/clip/..%2f..%2fetc%2fpasswd.mp4").status_code == 404


@pytest.mark.parametrize(
    "bad", ["nonsense", '{"do": "act", "action": [1]}', "x" * 5000, b"\x00\x01"]
)
def test_a_bad_message_closes_its_own_connection_only(bad: str | bytes) -> None:
    from starlette.websockets import WebSocketDisconnect

    page = client()
    with page.websocket_connect("/visit") as good:
        receive(good)
        with page.websocket_connect("/visit") as other:
            receive(other)
            other.send_bytes(bad) if isinstance(bad, bytes) else other.send_text(bad)
            with pytest.raises(WebSocketDisconnect) as closed:
                other.receive_text()
            assert closed.value.code == 1008
        good.send_text(ACT)
        assert receive(good)[0]["steps"] == 1


def test_visitors_are_few_and_do_not_stay_for_ever() -> None:
    from starlette.websockets import WebSocketDisconnect

    page = client(max_sessions=1, idle_seconds=0.3)
    with page.websocket_connect("/visit") as first:
        receive(first)
        with page.websocket_connect("/visit") as second:
            with pytest.raises(WebSocketDisconnect) as full:
                second.receive_text()
            assert full.value.code == 1013
        with pytest.raises(WebSocketDisconnect) as idle:
            first.receive_text()
        assert idle.value.code == 1001
    with page.websocket_connect("/visit") as again:
        assert receive(again)[0]["steps"] == 0


@contextlib.contextmanager
def running(app: Any) -> Iterator[int]:
    uvicorn = pytest.importorskip("uvicorn")
    host = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=host.run, daemon=True)
    thread.start()
    for _ in range(200):
        if host.started:
            break
        time.sleep(0.05)
    yield host.servers[0].sockets[0].getsockname()[1]
    host.should_exit = True
    thread.join(10)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_keys_move_the_picture_in_a_browser(tmp_path: Path) -> None:
    """In a process of its own: the browser's driver runs an event loop."""
    pytest.importorskip("playwright")
    with running(server().app()) as port:
        script = Path(__file__).with_name("browser.py")
        done = subprocess.run(
            [sys.executable, str(script), f"http://127.0.0.1:{port}/", str(tmp_path / "page.png")],
            capture_output=True,
            text=True,
            timeout=90,
            env=os.environ,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "moved" in done.stdout
    assert (tmp_path / "page.png").stat().st_size > 5000


def test_a_visitor_who_leaves_during_a_step_is_forgotten_quietly() -> None:
    """Its socket says so when the frame is sent, as starlette does."""
    import asyncio

    from starlette.websockets import WebSocketDisconnect

    class Gone:
        sent = 0

        async def accept(self) -> None: ...

        async def receive(self) -> dict[str, str]:
            return {"type": "websocket.receive", "text": ACT}

        async def send_text(self, text: str) -> None:
            Gone.sent += 1
            if Gone.sent == 2:
                raise WebSocketDisconnect(code=1006)

        async def send_bytes(self, data: bytes) -> None: ...

    here = server()
    asyncio.run(here._connect(Gone()))
    assert Gone.sent == 2 and not here._visits
