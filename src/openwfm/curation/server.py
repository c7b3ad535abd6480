"""Settings of an OpenAI-compatible server and of how its model draws words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

OURS = ("model", "messages", "stream", "n")


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """A server and how to treat it.

    ``base_url`` ends before ``/chat/completions``. ``api_key_env`` names the environment variable
    that holds the key. Each question has ``attempts``, each of at most ``timeout_seconds``; before
    the next one there is a pause of ``backoff_seconds``, doubled every time up to
    ``max_backoff_seconds`` (or what the server asks for, up to the same). ``concurrency`` questions
    are under way at a time in a process. After ``give_up_after`` questions in a row that failed in
    all attempts the run stops. ``require_id``: answers must name the question in their ``id`` or
    ``X-Request-Id`` (vLLM does).
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    timeout_seconds: float = 120.0
    attempts: int = 5
    backoff_seconds: float = 1.0
    max_backoff_seconds: float = 60.0
    concurrency: int = 8
    give_up_after: int = 25
    max_answer_bytes: int = 1_000_000
    require_id: bool = False

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        rules = (
            ("model", bool(self.model), "a name that the server knows"),
            ("api_key_env", self.api_key_env != "", "null or the name of a variable"),
            ("timeout_seconds", 0 < self.timeout_seconds < math.inf, "above 0"),
            ("attempts", 1 <= self.attempts <= 20, "in 1..20"),
            ("backoff_seconds", 0 <= self.backoff_seconds < math.inf, "at least 0"),
            (
                "max_backoff_seconds",
                self.backoff_seconds <= self.max_backoff_seconds < math.inf,
                "at least backoff_seconds",
            ),
            ("concurrency", 1 <= self.concurrency <= 256, "in 1..256"),
            ("give_up_after", self.give_up_after >= 1, "at least 1"),
            ("max_answer_bytes", self.max_answer_bytes >= 1024, "at least 1024"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"endpoint.{name}={getattr(self, name)}: must be {rule}")


def _check_url(url: str) -> None:
    """The URL is not repeated in the error: a password may be in it."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("endpoint.base_url: must hold no user name; see endpoint.api_key_env")
    try:
        usable = parts.port != 0 and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # the port is no number
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ValueError(f"endpoint.base_url={url}: must be http(s)://HOST[:PORT][/PATH]")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How the model draws words. ``seed`` makes a server that supports it repeatable.

    ``extra_body`` is merged into the request last: what this server has beyond OpenAI's names
    (``repetition_penalty``), or null to leave one of ours out.
    """

    temperature: float = 0.1
    top_p: float = 0.001
    max_tokens: int = 512
    seed: int = 0
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"sampling.temperature={self.temperature}: must be in [0, 2]")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"sampling.top_p={self.top_p}: must be in (0, 1]")
        if self.max_tokens < 1:
            raise ValueError(f"sampling.max_tokens={self.max_tokens}: must be at least 1")
        for name in OURS:
            if name in self.extra_body:
                raise ValueError(
                    f"sampling.extra_body.{name}: must be left out, the client sets it"
                )

    def body(self) -> dict[str, Any]:
        names = ("temperature", "top_p", "max_tokens", "seed")
        values = {name: getattr(self, name) for name in names} | dict(self.extra_body)
        return {name: value for name, value in values.items() if value is not None}
