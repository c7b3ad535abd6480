"""Questions to an OpenAI-compatible server (vLLM, Ollama, …), and answers that may be anything.

Plain HTTP, one request a question: an answer can only belong to the question whose connection it
came through, and an answer that names another of our questions is refused. No redirects and no
proxies or passwords from the environment; bodies of bounded size and time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from openwfm.curation.answer import clean_text
from openwfm.curation.record import StopRunError
from openwfm.curation.server import EndpointConfig, SamplingConfig
from openwfm.extras import require
from openwfm.randomness import derive_seed

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# The server will say the same to every question: the run stops, and can go on when it is mended.
HOPELESS = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405})
OUR_ID = re.compile(r"owfm-[0-9a-f]{24}")


class EndpointError(StopRunError):
    """The server cannot be used at all: not a fault of one clip, so the run must stop."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """``about`` names what is asked about; the request's id is derived from it."""

    about: str
    system: str
    text: str
    images: tuple[bytes, ...] = ()

    @property
    def id(self) -> str:
        return "owfm-" + hashlib.sha256(self.about.encode()).hexdigest()[:24]

    def messages(self) -> list[dict[str, Any]]:
        """Pictures (JPEG) first, then the text; text alone is plain content."""
        content: str | list[dict[str, Any]] = self.text
        if self.images:
            urls = ["data:image/jpeg;base64," + base64.b64encode(i).decode() for i in self.images]
            content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            content.append({"type": "text", "text": self.text})
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``failure`` is one word when there is no answer (``timeout``, ``http_500``, …), else empty;
    ``text`` is what the model said, uncleaned; ``cut`` says that it ran out of tokens."""

    about: str
    text: str = ""
    failure: str = ""
    detail: str = ""
    cut: bool = False
    attempts: int = 1
    prompt_tokens: int = 0
    output_tokens: int = 0


class _TryAgain(Exception):
    def __init__(self, failure: str, detail: str = "", pause: float = 0.0) -> None:
        super().__init__(failure)
        self.failure, self.detail, self.pause = failure, detail, pause


class Endpoint:
    """A connection pool to one server; safe to use from several threads.

    Raises ValueError when the key's environment variable is not set. ``sleep`` is for tests.
    """

    def __init__(
        self,
        config: EndpointConfig,
        sampling: SamplingConfig,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config, self.sampling, self._sleep = config, sampling, sleep
        self._httpx = require("httpx", extra="endpoint")
        self._key = _read_key(config.api_key_env)
        self._url = config.base_url.rstrip("/") + "/chat/completions"
        limits = self._httpx.Limits(max_connections=config.concurrency)
        self._client = self._httpx.Client(
            timeout=config.timeout_seconds, limits=limits, trust_env=False, follow_redirects=False
        )
        self._threads = ThreadPoolExecutor(config.concurrency, thread_name_prefix="endpoint")
        self._lock, self._failures = threading.Lock(), 0
        self._finish = weakref.finalize(self, _finish, self._threads, self._client)

    def close(self) -> None:
        """Also done when the object is no longer used: stages have no last call."""
        self._finish()

    def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers in the order of the questions. Raises EndpointError as `ask` does."""
        waiting = [self._threads.submit(self.ask, question) for question in questions]
        answers = [future.result() for future in waiting]
        assert [answer.about for answer in answers] == [q.about for q in questions]
        return answers

    def ask(self, question: Question) -> Answer:
        """An answer or a named failure. Raises EndpointError when the server refuses everybody
        (a wrong key, model or address), or nothing has come of many questions in a row."""
        body = {"model": self.config.model, "messages": question.messages()}
        payload = json.dumps({**body, **self.sampling.body()}).encode()
        answer = Answer(about=question.about)
        for attempt in range(1, self.config.attempts + 1):
            try:
                answer = self._once(question, payload, attempt)
                break
            except _TryAgain as error:
                answer = Answer(
                    about=question.about,
                    failure=error.failure,
                    detail=error.detail,
                    attempts=attempt,
                )
                pause = error.pause
            if attempt < self.config.attempts:
                self._sleep(self._pause(question, attempt, pause))
        self._watch(answer)
        return answer

    def _pause(self, question: Question, attempt: int, asked: float) -> float:
        """Exponential, with a jitter that keeps processes from knocking at the same moment."""
        longest = self.config.max_backoff_seconds
        pause = min(longest, self.config.backoff_seconds * 2 ** (attempt - 1))
        jitter = derive_seed(self.sampling.seed, f"backoff {question.id}", attempt) / 2**63
        return max(pause * (0.5 + 0.5 * jitter), min(asked, longest))

    def _watch(self, answer: Answer) -> None:
        """A refusal by the model is an answer; only what the server did counts."""
        with self._lock:
            served = answer.failure in ("", "refusal", "blocked")
            self._failures = failures = 0 if served else self._failures + 1
        if failures >= self.config.give_up_after:
            raise EndpointError(
                f"endpoint.base_url={self.config.base_url}: {failures} questions in a row failed, "
                f"the last with {answer.failure} {answer.detail}".rstrip()
            )

    def _once(self, question: Question, payload: bytes, attempt: int) -> Answer:
        headers = {"Content-Type": "application/json", "X-Request-Id": question.id}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            with self._client.stream(
                "POST", self._url, content=payload, headers=headers
            ) as response:
                data = self._read(response)
        except self._httpx.TimeoutException as error:
            raise _TryAgain("timeout", type(error).__name__) from None
        except self._httpx.HTTPError as error:
            raise _TryAgain("no_connection", type(error).__name__) from None
        if response.status_code != 200:
            return self._refused(question, response, data, attempt)
        return self._parse(question, response, data, attempt)

    def _read(self, response: Any) -> bytes:
        """The body, within its limits of size and time (a server may send a byte now and then)."""
        data, deadline = bytearray(), time.monotonic() + self.config.timeout_seconds
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > self.config.max_answer_bytes:
                raise _TryAgain("answer_too_large", f"over {self.config.max_answer_bytes} bytes")
            if time.monotonic() > deadline:
                raise _TryAgain("timeout", "the body came too slowly")
        return bytes(data)

    def _quoted(self, data: bytes) -> str:
        """The start of what the server said, fit for a log: without our key, were it in there."""
        text = data.decode(errors="replace")
        return clean_text(text.replace(self._key, "***") if self._key else text, 200)

    def _refused(self, question: Question, response: Any, data: bytes, attempt: int) -> Answer:
        status = response.status_code
        said = self._quoted(data)
        if status in HOPELESS:
            raise EndpointError(
                f"endpoint.base_url={self.config.base_url}: the server answered {status} to model "
                f"{self.config.model} (check the address, the model and endpoint.api_key_env): "
                f"{said}"
            )
        if status in RETRIED:
            raise _TryAgain(f"http_{status}", said, _seconds(response.headers.get("retry-after")))
        failure = f"http_{status}"
        return Answer(about=question.about, failure=failure, detail=said, attempts=attempt)

    def _parse(self, question: Question, response: Any, data: bytes, attempt: int) -> Answer:
        try:
            body = json.loads(data)
            choice = body["choices"][0]
            text, refusal = _said(choice["message"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise _TryAgain("bad_answer", self._quoted(data)) from None
        named = f"{body.get('id', '')} {response.headers.get('x-request-id', '')}"
        others = set(OUR_ID.findall(named)) - {question.id}
        if others or (self.config.require_id and question.id not in named):
            raise _TryAgain("wrong_id", f"{question.id} was asked, {clean_text(named, 120)} came")
        usage = body.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        reason = choice.get("finish_reason")
        failure = "refusal" if refusal else "blocked" if reason == "content_filter" else ""
        return Answer(
            about=question.about,
            text="" if failure else text,
            failure=failure,
            detail=clean_text(refusal, 200),
            cut=reason == "length",
            attempts=attempt,
            prompt_tokens=_count(counts.get("prompt_tokens")),
            output_tokens=_count(counts.get("completion_tokens")),
        )


def _finish(threads: ThreadPoolExecutor, client: Any) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    client.close()


def _read_key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"endpoint.api_key_env={variable}: the environment variable is not set")
    return key


def _said(message: dict[str, Any]) -> tuple[str, str]:
    """The model's words (of text parts, if the content is a list), and its refusal."""
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise TypeError("content")
    refusal = message.get("refusal")
    return content, refusal if isinstance(refusal, str) else ""


def _seconds(text: str | None) -> float:
    """A Retry-After in seconds; a date is not understood and counts as none."""
    try:
        value = float(text or "")
    except ValueError:
        return 0.0
    return value if 0 <= value < math.inf else 0.0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0
