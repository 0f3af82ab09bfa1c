"""The lane is an optimisation and never another behaviour: the whole corpus through both drivers, and everything that
anybody can see of them compared: bytes to the client, requests to the upstream, records, journal, metrics."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from .harness import (
    KEY,
    Gateway,
    Upstream,
    chunked,
    gateway,
    normal_request,
    on_uvloop,
    post,
    read_answer,
    upstream,
    whole,
)

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = """
server: {{limits: {{body_bytes: 200000, request_seconds: 20}}}}
providers:
  up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1", api_key: env:UPSTREAM_KEY}}
  other: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/other", headers: {{X-Other: env:UPSTREAM_KEY}}}}
  nobody: {{type: openai_compatible, base_url: "http://127.0.0.1:9/v1"}}
  proxied: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1", proxy: "env:PROXY"}}
  script: {{type: scripted}}
deployments:
  chat: {{model: {{format: Custom, name: served}}, provider: up, default: true, limits: {unlimited}}}
  known: {{model: {{format: Mistral AI, name: Mistral-large-2411}}, provider: up, limits: {unlimited}}}
  embed: {{model: {{format: OpenAI, name: text-embedding-3-small}}, provider: up, limits: {unlimited}}}
  two:
    model: {{format: Custom, name: two}}
    targets: [{{provider: nobody, model: a, priority: 0}}, {{provider: other, model: b, priority: 1}}]
    limits: {{tokens_per_minute: 100000, requests_per_minute: 1000}}
    answers_as: deployment
  nobody: {{model: {{format: Custom, name: n}}, provider: nobody, limits: {unlimited}}}
  proxied: {{model: {{format: Custom, name: p}}, provider: proxied, limits: {unlimited}}}
  script: {{model: {{format: Custom, name: s}}, provider: script, limits: {unlimited}}}
  small:
    model: {{format: Custom, name: t}}
    provider: up
    limits: {{tokens_per_minute: 60, requests_per_minute: 99}}
  full: {{model: {{format: Custom, name: f}}, provider: up, limits: {{tokens_per_minute: 1, requests_per_minute: 1}}}}
  spills:
    model: {{format: Custom, name: f}}
    provider: up
    limits: {{tokens_per_minute: 1, requests_per_minute: 1}}
    spillover: chat
  impatient:
    model: {{format: Custom, name: i}}
    provider: up
    limits: {unlimited}
    timeouts: {{connect: 5, first_event: 0.1, between_events: 0.1, whole: 0.2}}
"""
UNLIMITED = "{tokens_per_minute: null, requests_per_minute: null}"


class Case(Struct):
    """One request, and what the upstream says to it."""

    name: str
    request: bytes
    pieces: list[bytes] | None = None
    """None: a short whole answer."""
    ends: str = "keeps"


class Outcome(Struct):
    """All that can be seen of one."""

    answer: tuple[int, tuple[tuple[str, str], ...], bytes, bool]
    upstream: list[bytes]
    started: list[tuple[str, str]]
    records: list[dict[str, Any]]
    again: Outcome | None = None
    """Of the same request, sent once more on the same connection."""


BASES = {
    "models": "/models{path}?api-version=2024-05-01-preview",
    "models-field": "/models{path}?api-version=2025-04-01",
    "root": "{path}",
    "azure": "/openai/deployments/{deployment}{path}?api-version=2024-10-21",
    "v1": "/v1{path}",
}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": 'Grüße, "you"!\n'}]
WHOLE = (GOLDEN / "upstream" / "whole.body").read_bytes()
STREAM = (GOLDEN / "upstream" / "usage_on_extra_chunk.body").read_bytes()
VECTORS = json.dumps(
    {"data": [{"index": 0, "embedding": [0.5, -1.25]}], "model": "e", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
).encode()


def chat(base: str = "v1", deployment: str = "chat", *headers: str, key: str | None = KEY, **body: Any) -> bytes:
    """A chat request."""
    target = BASES[base].format(path="/chat/completions", deployment=deployment)
    fields = {"model": deployment, "messages": MESSAGES, "max_tokens": 50, **body}
    fields = {name: value for name, value in fields.items() if value is not None}
    return post(target, json.dumps(fields, ensure_ascii=False).encode(), *headers, key=key)


def habits() -> list[Case]:
    """Every habit of upstreams, asked for whole and as a stream, on every surface, in one read and in many."""
    cases = []
    for path in sorted((GOLDEN / "upstream").glob("*.body")):
        meaning = json.loads(path.with_suffix(".json").read_text())
        told = meaning["request"]
        body, n = path.read_bytes(), told.get("n")
        is_legacy = told.get("operation") == "completions"
        events = [match.end() for match in re.finditer(rb"\n\n|\r\n\r\n", body)][:-1]
        odd = list(range(7, len(body), 41))
        for base in BASES:
            for stream in (False, True):
                if is_legacy:
                    target = BASES[base].format(path="/completions", deployment="chat")
                    fields: dict[str, Any] = {"model": "chat", "prompt": "Say", "max_tokens": 50, "stream": stream}
                    request = post(target, json.dumps(fields).encode())
                else:
                    headers = ["extra-parameters: pass-through"]
                    request = chat(base, "chat", *headers, stream=stream, n=n)
                name = f"{path.stem}-{base}-{'stream' if stream else 'whole'}"
                cases.append(Case(f"{name}-at-once", request, [b"".join(chunked(body))]))
                if stream and base in ("models", "v1"):
                    cases.append(Case(f"{name}-by-event", request, chunked(body, *events)))
                    cases.append(Case(f"{name}-by-bytes", request, chunked(body, *odd)))
                    asked = chat(base, "chat", *headers, stream=True, n=n, stream_options={"include_usage": True})
                    if not is_legacy:
                        cases.append(Case(f"{name}-usage-asked", asked, chunked(body, *events)))
                    if "fails" in meaning:
                        continue  # which of the two failures is met first is a matter of reads
                    cases.append(Case(f"{name}-cut", request, chunked(body, *events)[:-2], "closes"))
    return cases


def errors() -> list[Case]:
    """Every way to be refused or to fail."""
    cases = [
        Case("no-key", chat(key=None)),
        Case("wrong-key", chat(key="wrong")),
        Case("unknown-deployment", chat(deployment="absent")),
        Case("unknown-deployment-in-path", chat("azure", "absent")),
        Case("wrong-operation", chat(deployment="embed")),
        Case("wrong-operation-root", post("/embeddings", b'{"input":"x"}')),
        Case("not-json", post("/v1/chat/completions", b"{")),
        Case("not-an-object", post("/v1/chat/completions", b"[]")),
        Case("empty", post("/v1/chat/completions", b"")),
        Case("nested", post("/v1/chat/completions", b"[" * 100 + b"]" * 100)),
        Case("many-lists", post("/v1/chat/completions", b'{"messages":[' + b"[]," * 65_600 + b"1]}")),
        Case("long-name", chat(deployment="absent" * 100)),
        Case("too-large", chat(messages=[{"role": "user", "content": "x" * 250_000}])),
        Case("wrong-version", post("/models/chat/completions?api-version=yesterday", b"{}")),
        Case("wrong-method", post("/v1/chat/completions", b"", method="PUT")),
        Case("get", post("/v1/chat/completions", b"", method="GET")),
        Case("unknown-path", post("/v1/chat/completed", b"{}")),
        Case("draft-mode", chat("models", "chat", "extra-parameters: maybe")),
        *(Case(f"never-fits-{base}", chat(base, "full")) for base in BASES),
        Case("never-fits-stream", chat("models", "full", stream=True)),
        *(Case(f"beyond-context-{base}", chat(base, "known", max_tokens=200_000)) for base in BASES),
        Case("beyond-context-stream", chat("models", "known", max_tokens=200_000, stream=True)),
        *(Case(f"taken-over-{base}", chat(base, "spills")) for base in BASES),
        Case("unsupported", chat("models", "known", logit_bias={"1": 1}, seed=4, top_p=7)),
        Case("unreachable", chat(deployment="nobody")),
        Case("unreachable-stream", chat("models", "nobody", stream=True)),
        Case("through-a-proxy-that-is-not-there", chat(deployment="proxied")),
        Case("closes", chat(), [], "closes"),
        Case("closes-in-the-head", chat(), [b"HTTP/1.1 200"], "closes"),
        Case("no-http", chat(), [b"SSH-2.0-x\r\n"], "closes"),
        Case("silent", chat(deployment="impatient"), [], "waits"),
        Case("silent-stream", chat(deployment="impatient", stream=True), [], "waits"),
        Case(
            "stops", chat(deployment="impatient", stream=True), chunked(STREAM)[:1] + chunked(STREAM, 340)[1:2], "waits"
        ),
        Case("html", chat(), whole(b"<html>")),
        Case("short", chat(), whole(b"{", "200 OK")),
        Case("long-error", chat(), whole(b"x" * 200_000, "500 Oh")),
        Case("redirect", chat(), whole(b"", "307 Go", "Location: /x")),
        Case("no-content", chat(), [b"HTTP/1.1 204 No\r\n\r\n"]),
    ]
    for base in ("models", "root", "azure", "v1"):
        for fields in ({"messages": None}, {"temperature": 9}, {"messages": []}, {"safe_prompt": True}, {"n": 300}):
            cases.append(Case(f"{base}-{json.dumps(fields)}", chat(base, **fields)))
        for status in ("400 Bad", "401 No", "404 No", "408 Late", "413 Big", "422 No", "429 Slow", "500 Oh", "503 No"):
            said = {"error": {"message": f"m {status}", "code": "c", "type": "t", "param": "top_p"}}
            pieces = whole(json.dumps(said).encode(), status, "Retry-After: 7")
            cases.append(Case(f"{base}-{status}", chat(base), pieces))
    return cases


def plain() -> list[Case]:
    """What goes well, on every surface and in every operation; and what only one of the drivers can do."""
    cases = []
    for base in BASES:
        legacy = BASES[base].format(path="/completions", deployment="chat")
        vectors = BASES[base].format(path="/embeddings", deployment="embed")
        cases += [
            Case(f"{base}-whole", chat(base), whole(WHOLE)),
            Case(f"{base}-stream", chat(base, stream=True), chunked(STREAM)),
            Case(f"{base}-legacy", post(legacy, b'{"model":"chat","prompt":"a"}'), whole(WHOLE)),
            Case(f"{base}-vectors", post(vectors, b'{"model":"embed","input":["a"]}'), whole(VECTORS)),
            Case(
                f"{base}-base64",
                post(vectors, b'{"model":"embed","input":"a","encoding_format":"base64"}'),
                whole(VECTORS),
            ),
            Case(f"{base}-two-targets", chat(base, "two"), whole(WHOLE)),
            Case(f"{base}-two-targets-stream", chat(base, "two", stream=True), chunked(STREAM)),
            Case(f"{base}-profile", chat(base, "known", safe_prompt=True, extra=1), whole(WHOLE)),
        ]
    long = [b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n' for _ in range(80)]
    cases += [
        Case("cut-by-quota", chat(deployment="small", max_tokens=None, stream=True), chunked(b"".join(long))),
        Case("cut-by-quota-whole", chat(deployment="small", max_tokens=None), chunked(b"".join(long))),
        Case("topped-up", chat(max_tokens=None, stream=True), chunked(b"".join(long * 30) + b"data: [DONE]\n\n")),
        Case("spills", chat(deployment="spills"), whole(WHOLE)),
        Case("scripted", chat(deployment="script")),
        Case("scripted-stream", chat(deployment="script", stream=True)),
        Case("client-id", chat("models", "chat", "x-ms-client-request-id: my-own-id"), whole(WHOLE)),
        Case("drop", chat("models", "chat", "extra-parameters: drop", zzz=1, yyy=[2]), whole(WHOLE)),
        Case("mesh", chat("models", "chat", "x-ms-model-mesh-model-name: two"), whole(WHOLE)),
        Case("keys", chat("v1", "chat", f"api-key: {KEY}", key="wrong"), whole(WHOLE)),
        Case("close", chat("v1", "chat", "Connection: close"), whole(WHOLE)),
        Case("old", chat().replace(b"HTTP/1.1", b"HTTP/1.0", 1), whole(WHOLE)),
        Case("doubled-slash", chat().replace(b"/v1/chat", b"/v1//chat", 1), whole(WHOLE)),
        Case("absolute", chat().replace(b"POST /", b"POST http://test/", 1), whole(WHOLE)),
        Case("score", post("/score", json.dumps({"input_data": {"input_string": ["a"]}}).encode()), whole(WHOLE)),
        Case("info", post("/info", b"", method="GET")),
        Case("gzip", chat(), whole(__import__("gzip").compress(WHOLE), "200 OK", "Content-Encoding: gzip")),
        Case("until-close", chat(), [b"HTTP/1.1 200 OK\r\n\r\n" + WHOLE], "closes"),
        Case("early-hints", chat(), [b"HTTP/1.1 103 Hi\r\nLink: x\r\n\r\n", *whole(WHOLE)]),
    ]
    return cases


def captured() -> list[Case]:
    """The recorded requests of genuine clients."""
    cases = []
    recorded = json.loads((GOLDEN / "requests" / "captured-client-requests.json").read_text())["requests"]
    for number, said in enumerate(recorded):
        target, body = said["target"], said["body"]
        name = "embed" if "embeddings" in target else "chat"
        target = re.sub(r"(?<=/deployments/)[^/]+", name, target)
        if isinstance(body, dict) and "model" in body:
            body = {**body, "model": name}
        data = json.dumps(body).encode() if body else b""
        lines = [f"{said['method']} {target} HTTP/1.1", "Host: test"]
        for header, value in said["headers"].items():
            if header.lower() not in ("host", "content-length", "connection", "transfer-encoding"):
                lines.append(f"{header}: {value.replace('<key-or-token>', KEY).replace('<key>', KEY)}")
        request = "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data
        streams = isinstance(body, dict) and body.get("stream")
        pieces = chunked(STREAM) if streams else whole(VECTORS if name == "embed" else WHOLE)
        cases.append(Case(f"captured-{number}", request, pieces))
    return cases


ONCE = {"silent", "silent-stream", "cut-by-quota", "cut-by-quota-whole"}
"""Slow; or the second answer names seconds, which pass."""
CASES = {case.name: case for case in [*plain(), *errors(), *captured(), *habits()]}


class Run(Struct):
    """The corpus through one driver."""

    outcomes: dict[str, Outcome]
    lines: list[tuple[str, dict[str, Any]]]
    metrics: str
    taken: list[bool]
    plain: list[bool]
    repeated: list[bool]


async def run_all(folder: Path, patches: Any, port_of: Upstream, lane: bool) -> Run:
    config = CONFIG.format(port=port_of.port, unlimited=UNLIMITED)
    async with gateway(folder, config, patches, lane=lane) as served:
        outcomes = {name: await outcome(served, port_of, case) for name, case in CASES.items()}
        metrics = served.application.gateway.metrics()
        text = metrics if isinstance(metrics, bytes) else await metrics
        await asyncio.sleep(0.01)
        kept = served.taken, served.plain, served.repeated
        return Run(outcomes, by_call(served.lines()), normal_metrics(text.decode()), *kept)


async def outcome(served: Gateway, above: Upstream, case: Case) -> Outcome:
    """Of the case on a connection of its own, which is asked once more if it is kept."""
    above.pieces, above.ends = whole(WHOLE) if case.pieces is None else case.pieces, case.ends
    reader, writer = await served.connect()
    try:
        found, stays = await on_connection(served, above, case, reader, writer)
        if stays and case.name not in ONCE:
            found.again, _ = await on_connection(served, above, case, reader, writer)
    finally:
        writer.transport.abort()
    return found


async def on_connection(
    served: Gateway, above: Upstream, case: Case, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[Outcome, bool]:
    """And whether the connection is kept."""
    above.seen.clear()
    served.seen.started.clear()
    served.seen.records.clear()
    writer.write(case.request)
    try:
        answer = await read_answer(reader)
    except TimeoutError:
        raise AssertionError(f"no answer to {case.name}, in the lane: {served.application.lane is not None}") from None
    stays = answer.is_complete and ("connection", "close") not in answer.headers and b" HTTP/1.1\r\n" in case.request
    if not stays:
        writer.transport.abort()
    for _ in range(4000):
        if served.application.gateway.running == 0:
            break
        await asyncio.sleep(0.005)
    requests = [normal_request(request, above.port) for request in above.seen]
    return Outcome(answer.normal, requests, list(served.seen.started), served.records()), stays


def by_call(lines: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Calls come one after the other, so the order is the same too."""
    return lines


def normal_metrics(text: str) -> str:
    """Without what the process and the clock decide."""
    kept = [line for line in text.splitlines() if line.startswith("modelport_")]
    kept = [line for line in kept if "_seconds" not in line or "_seconds_count" in line]
    return "\n".join(line for line in kept if not re.search("_journal_|_ledger_|created", line))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Run]:
    folder = tmp_path_factory.mktemp("differential")

    async def both() -> dict[bool, Run]:
        found = {}
        for lane in (False, True):
            async with upstream() as above:
                with pytest.MonkeyPatch.context() as patches:
                    found[lane] = await run_all(folder, patches, above, lane)
        return found

    result: dict[bool, Run] = on_uvloop(both)
    return result


@pytest.mark.parametrize("name", CASES)
def test_both_drivers_do_the_same(runs: dict[bool, Run], name: str) -> None:
    lane, coroutine = runs[True].outcomes[name], runs[False].outcomes[name]
    assert_same(lane, coroutine)
    assert (lane.again is None) == (coroutine.again is None)
    if lane.again is not None and coroutine.again is not None:
        assert_same(lane.again, coroutine.again)


def assert_same(lane: Outcome, coroutine: Outcome) -> None:
    """All that can be seen."""
    assert lane.answer == coroutine.answer
    assert lane.upstream == coroutine.upstream
    assert lane.started == coroutine.started
    assert lane.records == coroutine.records


def test_the_journal_and_the_metrics_are_the_same(runs: dict[bool, Run]) -> None:
    assert runs[True].lines == runs[False].lines
    assert runs[True].metrics == runs[False].metrics


def test_the_lane_was_there(runs: dict[bool, Run]) -> None:
    """Or all this would compare one driver with itself."""
    kept = runs[True].taken.count(True), runs[True].plain.count(True)
    assert sum(kept) > len(CASES) * 0.8
    assert min(kept) > len(CASES) * 0.1
    assert runs[True].taken.count(False) > 10
    assert not runs[False].taken


def test_heads_were_known_again(runs: dict[bool, Run]) -> None:
    again = [outcome for outcome in runs[True].outcomes.values() if outcome.again is not None]
    assert len(again) > len(CASES) * 0.5
    assert runs[True].repeated.count(True) > len(CASES) * 0.1
    assert not runs[False].repeated
