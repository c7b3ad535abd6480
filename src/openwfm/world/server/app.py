"""The page that a world is played on: one HTML file, one WebSocket a visitor.

A visitor sends one small JSON message and gets one picture back; the next message is read when the
last one is answered, so nothing queues up. A malformed or huge message closes its own connection.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from openwfm.extras import require
from openwfm.video import write_video
from openwfm.world.server.config import PlayConfig
from openwfm.world.server.visit import MessageError, Visit
from openwfm.world.session import Session

TOO_MANY, BAD, IDLE = 1013, 1008, 1001  # codes that close a WebSocket


class Server:
    """``beginnings``: sessions of one row each, of one world. Only forks of them are stepped."""

    def __init__(
        self, beginnings: Sequence[Session], config: PlayConfig, *, title: str = "world"
    ) -> None:
        if any(len(session) != 1 for session in beginnings) or not beginnings:
            raise ValueError("beginnings: must be sessions of one row each")
        self.config, self.title = config, title
        self._beginnings = list(beginnings)
        self._visits: dict[str, Visit] = {}
        self._network = asyncio.Lock()  # one step at a time: it uses all cores

    def app(self) -> Any:
        """The ASGI application."""
        fastapi = require("fastapi", extra="play")
        responses = require("fastapi.responses", extra="play")
        app = fastapi.FastAPI(title="openwfm play", openapi_url=None)

        @app.get("/")
        def page() -> Any:
            return responses.HTMLResponse(_page())

        @app.get("/facts")
        def facts() -> Any:
            return responses.JSONResponse(self.facts())

        @app.get("/clip/{token}.mp4")
        async def clip(token: str) -> Any:
            visit = self._visits.get(token)
            if visit is None:
                raise fastapi.HTTPException(404, "no such visit")
            data = await asyncio.to_thread(_mp4, visit.clip(), self._beginnings[0].actions.rate)
            name = {"Content-Disposition": 'attachment; filename="openwfm.mp4"'}
            return responses.Response(data, media_type="video/mp4", headers=name)

        routing = require("starlette.routing", extra="play")
        app.router.routes.append(routing.WebSocketRoute("/visit", self._connect))
        return app

    def facts(self) -> dict[str, Any]:
        """What the page needs to know of the world."""
        rows, columns = self._beginnings[0].frames.shape[-2:]
        return {
            "title": self.title,
            "actions": asdict(self._beginnings[0].actions),
            "scenes": len(self._beginnings),
            "rows": rows,
            "columns": columns,
            "zoom": self.config.zoom,
        }

    async def _connect(self, socket: Any) -> None:
        config = self.config
        await socket.accept()
        if len(self._visits) >= config.max_sessions:
            await socket.close(TOO_MANY, f"{config.max_sessions} visitors are the most")
            return
        token = secrets.token_urlsafe(12)
        visit = self._visits[token] = Visit(
            self._beginnings, max_branches=config.max_branches, max_history=config.max_history
        )
        try:
            await self._send(socket, visit, token, visit.branch.history[-1], 0.0)
            while True:
                message = await asyncio.wait_for(socket.receive(), config.idle_seconds)
                if message["type"] == "websocket.disconnect":
                    return
                text = message.get("text")
                if text is None or len(text) > config.max_message:
                    raise MessageError(f"message: must be text of at most {config.max_message}")
                async with self._network:
                    started = time.perf_counter()
                    frame = await asyncio.to_thread(visit.handle, text)
                    seconds = time.perf_counter() - started
                await self._send(socket, visit, token, frame, seconds)
        except MessageError as error:
            await socket.close(BAD, str(error)[:120])
        except TimeoutError:
            await socket.close(IDLE, "idle")
        except require("starlette.websockets", extra="play").WebSocketDisconnect:
            pass  # left while a frame was being made
        finally:
            self._visits.pop(token, None)

    async def _send(
        self, socket: Any, visit: Visit, token: str, frame: Tensor, seconds: float
    ) -> None:
        info = {**visit.facts(), "token": token, "milliseconds": round(1e3 * seconds, 2)}
        await socket.send_text(json.dumps(info))
        await socket.send_bytes(await asyncio.to_thread(_png, frame))


def _page() -> str:
    return (resources.files("openwfm.world.server") / "page.html").read_text("utf-8")


def _png(frame: UInt8[Tensor, "h w c"]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame.numpy()).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _mp4(frames: UInt8[Tensor, "t h w c"], fps: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        write_video(file, frames, fps, {"synthetic": True, "made_by": "openwfm"})
        return file.read_bytes()
