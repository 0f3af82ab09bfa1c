"""The corpus: requests to every inference route, and what the upstream answers to each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from msgspec import Struct

from .harness import KEY, chunked, post, whole

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
    timeouts: {{connect: 5, first_event: 1, between_events: 1, whole: 3}}
  priced: {{model: {{format: Custom, name: priced}}, provider: up, limits: {unlimited}}}
  once:
    model: {{format: Custom, name: once}}
    provider: up
    limits: {{tokens_per_minute: 100000, requests_per_minute: 1}}
  impossible:
    model: {{format: Custom, name: m}}
    targets: [{{provider: nobody, model: a, priority: 0}}, {{provider: nobody, model: b, priority: 1}}]
    limits: {unlimited}
prices: {{file: "{prices}"}}
projects:
  house: {{budget: {{amount: "50.00", per: day}}}}
keys:
  team:
    project: house
    limits: {{tokens_per_minute: 50000, requests_per_minute: 500}}
    budget: {{per: day, tokens: 40000, amount: "5.00"}}
    key1: env:TEAM_KEY
  tiny: {{limits: {{tokens_per_minute: 50000, requests_per_minute: 1}}, key1: env:TINY_KEY}}
  spent: {{budget: {{per: day, tokens: 120}}, key1: env:SPENT_KEY}}
"""
PRICES = """
prices:
  - {deployment: priced, input: "1.80", output: "5.40"}
  - {deployment: two, input: "0.10", output: "0.30", request: "0.0001"}
  - {deployment: embed, input: "0.02"}
"""
SECRETS = {f"{name}_KEY": f"key-of-{name.lower()}-{'0' * 24}" for name in ("TEAM", "TINY", "SPENT")}
UNLIMITED = "{tokens_per_minute: null, requests_per_minute: null}"


class Case(Struct):
    """One request, and what the upstream says to it."""

    name: str
    request: bytes
    pieces: list[bytes] | None = None
    """None: a short whole answer."""
    ends: str = "keeps"
    draining: bool = False
    """Whether the gateway has been told to end."""


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
