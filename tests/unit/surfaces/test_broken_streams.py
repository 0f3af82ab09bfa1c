"""Streams that break, clients that leave, readers that dawdle: seen from a raw socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from openai import APIError, OpenAI

from modelport.core.errors import EngineFailed, Unavailable, UpstreamTimedOut
from modelport.core.events import ChoiceFinished, FinishReason, TextDelta
from modelport.surfaces.options import Limits, Options

from .doubles import KEY, FakeGateway, Served, request, serving, until_closed
from .test_inference import CHAT, STREAMED

DOORS = ["/models/chat/completions", "/openai/deployments/mistral-large/chat/completions", "/v1/chat/completions"]
BROKEN = ([TextDelta("Hel")], EngineFailed("The worker died."))


def endless() -> list[Any]:
    """One delta, and then nothing, for ever."""
    return [[TextDelta("Hel")], asyncio.Event()]


@pytest.mark.parametrize("path", DOORS)
def test_a_broken_stream_says_why_and_ends_without_an_end(
    served: Served, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    served.gateway.script = BROKEN
    with served.open(request(path, STREAMED)) as connection:
        received = until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"Hel" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in received
    last = received.split(b"data: ")[-1].split(b"\n")[0]
    assert json.loads(last)["error"]["message"] == "The worker died."
    assert json.loads(last)["choices"] == []
    assert served.gateway.endings() == [EngineFailed.code]
    assert "Traceback" not in caplog.text


def test_azure_ai_inference_sees_the_break(served: Served) -> None:
    served.gateway.script = BROKEN
    client = ChatCompletionsClient(f"{served.url}/models", AzureKeyCredential(KEY))
    texts = []
    with client, pytest.raises(HttpResponseError, match="Response ended prematurely"):
        for update in client.complete(messages=[UserMessage("Hi")], model="mistral-large", stream=True):
            texts += [choice.delta.content for choice in update.choices or []]
    assert "".join(texts) == "Hel"


def test_openai_sees_the_break(served: Served) -> None:
    served.gateway.script = BROKEN
    with OpenAI(base_url=f"{served.url}/openai/v1", api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(
            model="mistral-large", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with pytest.raises(APIError, match="The worker died"):
            list(stream)


def test_our_own_fault_in_mid_stream_breaks_it_too(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.gateway.script = ([TextDelta("Hel")], ValueError("the prompt: my secret"))
    with served.open(request(DOORS[0], STREAMED)) as connection:
        received = until_closed(connection)
    assert not received.endswith(b"0\r\n\r\n")
    assert b"secret" not in received
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("body", [CHAT, STREAMED], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", DOORS)
def test_a_client_that_hangs_up_stops_the_work(served: Served, path: str, body: bytes) -> None:
    served.gateway.script = endless()
    idle = served.tasks()
    with served.open(request(path, body)):
        assert served.gateway.working.wait(20)
        assert served.tasks() > idle
    assert served.gateway.endings() == ["cancelled"]
    assert served.send("GET", "/health").status == 200
    while served.tasks() != idle:
        threading.Event().wait(0.05)


def test_a_client_that_hangs_up_in_its_body_is_not_answered(served: Served) -> None:
    whole = request(DOORS[0], CHAT)
    with served.open(whole[:-10]):
        while not served.gateway.heads:
            threading.Event().wait(0.01)
    assert served.gateway.endings() == ["cancelled"]
    assert served.gateway.bodies == []


def test_one_connection_serves_call_after_call(served: Served) -> None:
    with served.open(b"") as connection:
        for body in (CHAT, STREAMED, CHAT, STREAMED):
            connection.sendall(request(DOORS[0], body))
            received = b""
            while not received.endswith((b"}", b"0\r\n\r\n")):
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 OK")
    assert served.gateway.endings(4) == ["completed"] * 4


def test_pipelined_calls_are_answered_in_turn(served: Served) -> None:
    last = request(DOORS[0], STREAMED, "Connection: close")
    with served.open(request(DOORS[0], CHAT) + request("/health", b"", method="GET") + last) as connection:
        received = until_closed(connection)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.endswith(b"0\r\n\r\n")
    assert served.gateway.endings(2) == ["completed"] * 2


def test_a_refused_call_leaves_the_connection_usable(served: Served) -> None:
    with served.open(request(DOORS[0], CHAT, key=None)) as connection:
        assert b"401 Unauthorized" in connection.recv(65536)
        connection.sendall(request(DOORS[0], CHAT, "Connection: close"))
        assert b"200 OK" in until_closed(connection)


def test_a_client_that_waits_for_our_word_is_refused_without_it(served: Served) -> None:
    head = request(DOORS[0], CHAT, "Expect: 100-continue", key=None)[: -len(CHAT)]
    with served.open(head) as connection:
        received = until_closed(connection)
    assert received.startswith(b"HTTP/1.1 401 Unauthorized")
    assert b"connection: close" in received


def test_a_client_that_waits_for_our_word_gets_it(served: Served) -> None:
    head = request(DOORS[0], CHAT, "Expect: 100-continue", "Connection: close")[: -len(CHAT)]
    with served.open(head) as connection:
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(CHAT)
        assert b"200 OK" in until_closed(connection)


def test_a_reader_that_dawdles_slows_the_source_and_gets_everything() -> None:
    text = "x" * 10_000
    pulled: list[int] = []

    class Counting(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            for number in range(2_000):
                pulled.append(number)
                yield [TextDelta(text)]
            yield [ChoiceFinished(FinishReason.STOP)]

    whole = request(DOORS[0], STREAMED, "Connection: close")
    with serving(FakeGateway(script=Counting())) as served, served.open(whole) as connection:
        connection.recv(1)
        settled = -1
        while settled != len(pulled):
            settled = len(pulled)
            threading.Event().wait(0.3)
        assert settled < 2_000
        received = until_closed(connection)
    assert received.count(b"x" * 10_000) == 2_000
    assert received.endswith(b"0\r\n\r\n")


def test_a_stream_that_takes_too_long_is_broken() -> None:
    gateway = FakeGateway(script=endless())
    with (
        serving(gateway, Options(limits=Limits(request_seconds=0.3))) as hasty,
        hasty.open(request(DOORS[0], STREAMED)) as connection,
    ):
        received = until_closed(connection)
    assert b"Hel" in received
    assert b"longer than the server allows" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert gateway.endings() == [UpstreamTimedOut.code]


def test_a_reader_that_never_reads_does_not_hold_a_stream_for_ever() -> None:
    gateway = FakeGateway(script=[[TextDelta("x" * 10_000)]] * 5_000)
    with serving(gateway, Options(limits=Limits(request_seconds=0.5))) as hasty:
        idle = hasty.tasks()
        with hasty.open(request(DOORS[0], STREAMED)):
            assert gateway.endings() == [UpstreamTimedOut.code]
            while hasty.tasks() > idle:
                threading.Event().wait(0.05)


@pytest.mark.parametrize("path", DOORS)
def test_a_call_that_outlasts_the_drain_is_told_so(served: Served, path: str, caplog: pytest.LogCaptureFixture) -> None:
    served.gateway.script = endless()
    with served.open(request(path, CHAT)) as whole, served.open(request(path, STREAMED)) as streamed:
        while len(served.gateway.bodies) < 2 or not served.gateway.working.is_set():
            threading.Event().wait(0.01)
        first = streamed.recv(65536)
        while b"Hel" not in first:
            first += streamed.recv(65536)
        served.stop_running_calls()
        refused, cut = until_closed(whole), first + until_closed(streamed)
    assert refused.startswith(b"HTTP/1.1 503 Service Unavailable")
    assert b"retry-after: 5" in refused
    assert b"The server is shutting down." in cut
    assert not cut.endswith(b"0\r\n\r\n")
    assert served.gateway.endings(2) == [Unavailable.code] * 2
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "head", [(), ("Expect: 100-continue",), ("Content-Encoding: gzip",)], ids=["usual", "waits", "packed"]
)
def test_a_fault_before_there_is_a_call_is_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, head: tuple[str, ...]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret words")

    whole = request(DOORS[0], CHAT, *head)
    sent = whole if "Expect: 100-continue" not in head else whole[: -len(CHAT)]
    with serving(FakeGateway()) as served:
        with monkeypatch.context() as patched:
            patched.setattr("modelport.lane.protocol.call_made", fail)
            with served.open(sent) as connection:
                received = until_closed(connection)
        assert received.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"InternalServerError" in received
        assert b"secret" not in received
        with served.open(request(DOORS[0], CHAT, "Connection: close")) as connection:
            assert b"200 OK" in until_closed(connection)
        assert served.gateway.running == 0
    assert [record.getMessage().split("\n")[0] for record in caplog.records if record.name == "modelport.surfaces"] == [
        "unhandled ZeroDivisionError"
    ]
    assert "secret" not in caplog.text


def test_a_fault_before_there_is_a_call_whose_body_is_slow_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("modelport.lane.protocol.call_made", fail)
    with serving(FakeGateway()) as served, served.open(request(DOORS[0], CHAT)[:-1]) as connection:
        assert until_closed(connection).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
