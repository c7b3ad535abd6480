"""A local HTTP server that answers like an OpenAI-compatible one, or in any other way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """``body`` is sent as it is when it is bytes; ``stall`` seconds pass before the answer and
    ``drip`` seconds before each of its bytes."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stall: float = 0.0
    drip: float = 0.0
    drop: bool = False


@dataclass
class Request:
    headers: dict[str, str]
    body: dict[str, Any]
    path: str

    @property
    def id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def words(self) -> str:
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else content[-1]["text"]

    @property
    def images(self) -> list[str]:
        content = self.body["messages"][-1]["content"]
        parts = [] if isinstance(content, str) else content
        return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def completion(text: Any, **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return {
        "id": "chatcmpl-1",
        "choices": [{**choice, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    } | changes


class FakeEndpoint(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Callable[[Request, int], Reply]) -> None:
        """``answer`` gets the request and how often its id was asked before."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEndpoint

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(headers, json.loads(data), self.path)
        server = self.server
        with server.lock:
            before = sum(other.id == request.id for other in server.requests)
            server.requests.append(request)
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            self._send(server.answer(request, before))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.under_way -= 1

    def _send(self, reply: Reply) -> None:
        time.sleep(reply.stall)
        if reply.drop:
            self.close_connection = True
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in [body] if not reply.drip else [bytes([byte]) for byte in body]:
            time.sleep(reply.drip)
            self.wfile.write(piece)
        if reply.headers.get("Content-Length"):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving(answer: Callable[[Request, int], Reply]) -> Iterator[FakeEndpoint]:
    with FakeEndpoint(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
