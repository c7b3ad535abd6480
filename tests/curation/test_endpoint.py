"""The client against a server that fails, stalls, lies and mixes up: a right answer or a named
failure, never another question's answer."""

from __future__ import annotations

import hashlib
import json
import logging
import time

import pytest
from fake_endpoint import FakeEndpoint, Reply, Request, completion, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.endpoint import Endpoint, EndpointError, Question
from openwfm.curation.server import EndpointConfig, SamplingConfig


def endpoint(server: FakeEndpoint, *, pauses: list[float] | None = None, **changes) -> Endpoint:
    values = {"base_url": server.url, "model": "m", "timeout_seconds": 5.0, "attempts": 3}
    sampling = changes.pop("sampling", SamplingConfig())
    noted = [] if pauses is None else pauses
    return Endpoint(EndpointConfig(**values | changes), sampling, sleep=noted.append)


def question(name: str = "a", **changes) -> Question:
    return Question(**{"about": name, "system": "s", "text": f"what of {name}?"} | changes)


def ask(answer, **changes):
    with serving(answer) as server:
        client = endpoint(server, **changes)
        try:
            return client.ask(question()), server
        finally:
            client.close()


def test_the_request_is_what_openai_documents() -> None:
    with serving(lambda *_: Reply(completion("fine"))) as server:
        sampling = SamplingConfig(extra_body={"repetition_penalty": 1.05, "top_p": None})
        client = endpoint(server, sampling=sampling)
        found = client.ask(question(images=(b"\xff\xd8one", b"\xff\xd8two")))
        client.close()
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert "authorization" not in request.headers
    system, user = request.body.pop("messages")
    assert system == {"role": "system", "content": "s"}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    assert user["content"][0]["image_url"]["url"] == "data:image/jpeg;base64,/9hvbmU="
    assert request.body == {
        "model": "m", "temperature": 0.1, "max_tokens": 512, "seed": 0, "repetition_penalty": 1.05,
    }  # fmt: skip
    assert (found.text, found.prompt_tokens, found.output_tokens) == ("fine", 7, 3)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_faults_are_retried(status) -> None:
    pauses: list[float] = []
    found, server = ask(
        lambda _, before: Reply(completion("at last")) if before == 2 else Reply(status=status),
        pauses=pauses,
    )
    assert (found.text, found.attempts, found.failure) == ("at last", 3, "")
    assert len({request.id for request in server.requests}) == 1
    assert 0.5 <= pauses[0] <= 1 <= pauses[1] <= 2


def test_pauses_double_up_to_a_limit_and_obey_the_server() -> None:
    pauses: list[float] = []
    found, _ = ask(
        lambda _, before: Reply(status=429, headers={"Retry-After": "6" if before == 4 else "no"}),
        pauses=pauses, attempts=7, backoff_seconds=1, max_backoff_seconds=7,
    )  # fmt: skip
    assert found.failure == "http_429" and found.attempts == 7
    nominal = [1, 2, 4, 7, 7, 7]
    assert all(n / 2 <= pause <= n for n, pause in zip(nominal, pauses, strict=True))
    assert pauses[4] >= 6


@pytest.mark.parametrize(
    "reply, failure",
    [
        (Reply(b"<html>gateway</html>"), "bad_answer"),
        (Reply(b'{"choices": [{"mess'), "bad_answer"),
        (Reply(b"\xff\xfe\x00"), "bad_answer"),
        (Reply(b"[" * 100_000), "bad_answer"),
        (Reply(b"null"), "bad_answer"),
        (Reply({"choices": []}), "bad_answer"),
        (Reply(completion({"a": 1})), "bad_answer"),
        (Reply(completion([{"type": "text"}])), "bad_answer"),
        (Reply(completion(["text"])), "bad_answer"),
        (Reply(completion("x" * 300_000)), "answer_too_large"),
        (Reply(drop=True), "no_connection"),
        (Reply(b"{}", headers={"Content-Length": "50"}), "no_connection"),
        (Reply(b"{}", headers={"Content-Encoding": "gzip"}), "no_connection"),
        (Reply(status=500), "http_500"),
        (Reply({"error": "too many images"}, status=400), "http_400"),
    ],
)
def test_every_bad_answer_has_a_name(reply, failure) -> None:
    found, server = ask(lambda *_: reply, attempts=2, max_answer_bytes=200_000)
    assert (found.text, found.failure) == ("", failure)
    assert len(server.requests) == (1 if failure == "http_400" else 2)


@pytest.mark.parametrize("slow", [{"stall": 0.8}, {"drip": 0.05}])
def test_a_server_that_stalls_or_drips_times_out(slow) -> None:
    begun = time.monotonic()
    with serving(lambda *_: Reply(completion("late"), **slow)) as server:
        client = endpoint(server, attempts=1, timeout_seconds=0.2)
        found = client.ask(question())
        client.close()
        assert time.monotonic() - begun < 0.8
    assert found.failure == "timeout"


def test_no_server() -> None:
    with serving(lambda *_: Reply()) as server:
        client = endpoint(server, attempts=2)
    assert client.ask(question()).failure == "no_connection"
    client.close()


@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_a_server_that_refuses_everybody_stops_the_run_without_naming_the_key(
    status, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-secret-123")
    caplog.set_level(logging.DEBUG)
    said = {"error": "x" * 175 + " bad key sk-secret-123"}
    reply = Reply(said, status, {"Location": "http://127.0.0.1:9/"})
    with pytest.raises(EndpointError) as caught:
        ask(lambda *_: reply, api_key_env="TEST_KEY")
    assert str(status) in str(caught.value) and "model m" in str(caught.value)
    assert "secret" not in str(caught.value) + caplog.text


def test_the_key_is_sent_and_read_from_the_named_variable_alone(monkeypatch) -> None:
    monkeypatch.setenv("TEST_KEY", " sk-1\n")
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    _, server = ask(lambda *_: Reply(completion("x")), api_key_env="TEST_KEY")
    assert server.requests[0].headers["authorization"] == "Bearer sk-1"
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ValueError, match="endpoint.api_key_env=TEST_KEY"):
        ask(lambda *_: Reply(completion("x")), api_key_env="TEST_KEY")


def test_many_failures_in_a_row_stop_the_run_and_a_success_forgives() -> None:
    def answer(request: Request, _: int) -> Reply:
        return Reply(completion("x")) if "good" in request.words else Reply(status=500)

    with serving(answer) as server:
        client = endpoint(server, attempts=1, give_up_after=3)
        for name in ("bad 1", "bad 2", "good", "bad 3", "bad 4"):
            client.ask(question(name))
        with pytest.raises(EndpointError, match="3 questions in a row failed, the last with http_"):
            client.ask(question("bad 5"))
        client.close()


@pytest.mark.parametrize(
    "changes, failure",
    [
        ({"message": {"content": None, "refusal": "I will not"}}, "refusal"),
        ({"message": {"content": "words"}, "finish_reason": "content_filter"}, "blocked"),
    ],
)
def test_the_model_itself_declines(changes, failure) -> None:
    found, server = ask(lambda *_: Reply({"choices": [changes]}))
    assert (found.text, found.failure, len(server.requests)) == ("", failure, 1)


def test_text_parts_and_odd_counts() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "x"}, {"type": "text", "text": "b"}]
    usage = {"prompt_tokens": -3, "completion_tokens": "many"}
    found, _ = ask(lambda *_: Reply(completion(parts, usage=usage)))
    assert (found.text, found.prompt_tokens, found.output_tokens) == ("a b", 0, 0)


def test_an_answer_that_names_another_question_is_refused_and_asked_again() -> None:
    other = question("b").id

    def answer(request: Request, before: int) -> Reply:
        mine = f"chatcmpl-{request.id if before else other}"
        return Reply(completion("of a" if before else "of b", id=mine))

    found, _ = ask(answer)
    assert (found.text, found.attempts) == ("of a", 2)
    header, _ = ask(lambda *_: Reply(completion("of b"), headers={"X-Request-Id": other}))
    assert header.failure == "wrong_id"
    strict, _ = ask(lambda *_: Reply(completion("?")), require_id=True)
    assert strict.failure == "wrong_id"


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32))
def test_out_of_order_and_faulty_under_load_each_question_gets_its_own(seed: int) -> None:
    def luck(request: Request, before: int) -> int:
        return hashlib.sha256(f"{seed} {request.words} {before}".encode()).digest()[0]

    def answer(request: Request, before: int) -> Reply:
        kinds = {
            0: Reply(status=503), 1: Reply(drop=True), 2: Reply(b"{"),
            3: Reply(completion("wrong", id="chatcmpl-" + question("nobody").id)),
        }  # fmt: skip
        dice = luck(request, before)
        text = completion(f"answer to {request.words}", id=f"chatcmpl-{request.id}")
        return kinds.get(dice % 8, Reply(text, stall=dice / 256 * 0.02))

    questions = [question(str(number)) for number in range(60)]
    with serving(answer) as server:
        client = endpoint(server, attempts=3, concurrency=6, give_up_after=60)
        found = client.ask_all(questions)
        client.close()
    assert server.most_under_way <= 6
    for asked, got in zip(questions, found, strict=True):
        assert got.about == asked.about
        if got.failure:
            assert got.failure in ("http_503", "no_connection", "bad_answer", "wrong_id")
        else:
            assert got.text == f"answer to {asked.text}"
    assert sum(not got.failure for got in found) > 30


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"base_url": "ftp://x"}, "endpoint.base_url=ftp://x"),
        ({"base_url": "127.0.0.1:8000"}, "endpoint.base_url"),
        ({"base_url": "http://host:port/v1"}, "endpoint.base_url"),
        ({"base_url": "http:///v1"}, "endpoint.base_url"),
        ({"base_url": "http://host/v1?key=1"}, "endpoint.base_url"),
        ({"base_url": "http://me:secret@host/v1"}, "no user name"),
        ({"model": ""}, "endpoint.model"),
        ({"attempts": 0}, "endpoint.attempts=0"),
        ({"timeout_seconds": float("inf")}, "endpoint.timeout_seconds"),
        ({"backoff_seconds": 61}, "endpoint.max_backoff_seconds"),
        ({"concurrency": 0}, "endpoint.concurrency"),
        ({"give_up_after": 0}, "endpoint.give_up_after"),
    ],
)
def test_bad_endpoints(changes, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        EndpointConfig(**{"base_url": "http://host", "model": "m"} | changes)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"temperature": 3}, "sampling.temperature=3"),
        ({"top_p": 0}, "sampling.top_p=0"),
        ({"max_tokens": 0}, "sampling.max_tokens=0"),
        ({"extra_body": {"model": "x"}}, "sampling.extra_body.model"),
    ],
)
def test_bad_sampling(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**changes)


def test_question_ids_tell_questions_apart() -> None:
    ids = {question(json.dumps([a, b])).id for a in range(30) for b in range(30)}
    assert len(ids) == 900
