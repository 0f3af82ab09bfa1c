"""What programs of a team send: documented fields, tools, schemas, extras, limited keys, and errors of each kind."""

from __future__ import annotations

import json
from typing import Any

from .corpus import BASES, GOLDEN, SECRETS, STREAM, WHOLE, Case, chat
from .harness import chunked, post, whole

NEUTRAL = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "stop": ["<|endoftext|>"],
    "seed": 42,
    "response_format": {"type": "text"},
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Of a city", "parameters": PARAMETERS}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PARAMETERS}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
TURNS = [
    {"role": "user", "content": "How is the weather in Paris?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": '{"celsius": 21}'},
]
IMAGE = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
]
EXTRAS = {"best_of_all": 3, "house": {"rule": [1, 2]}}
TOOLS_WHOLE, TOOLS_STREAM = (
    (GOLDEN / "upstream" / f"{name}.body").read_bytes() for name in ("whole_tools", "tools_openai")
)
BROKEN = (GOLDEN / "upstream" / "error_in_the_middle.body").read_bytes()
TEXT = [b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"pair "}}]}\n\n'] * 3
FORMS: dict[str, dict[str, Any]] = {
    "neutral": NEUTRAL,
    "some-neutral": {"presence_penalty": 0, "frequency_penalty": 0, "response_format": {"type": "text"}},
    "tool-given": {"tools": [TOOL], "tool_choice": "auto"},
    "tool-required": {"tools": [TOOL], "tool_choice": "required"},
    "tool-named": {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "tool-turns": {"messages": TURNS, "tools": [TOOL]},
    "json-object": {"response_format": {"type": "json_object"}},
    "json-schema": {"response_format": SCHEMA},
    "image": {"messages": [{"role": "user", "content": IMAGE}]},
    "many-turns": {"messages": [{"role": r, "content": f"{r} {n}"} for n in range(8) for r in ("user", "assistant")]},
    "no-maximum": {"max_tokens": None},
    "everything": {**NEUTRAL, "tools": [TOOL], "tool_choice": "auto", "response_format": SCHEMA, "messages": TURNS},
}


def answers(form: str, stream: bool) -> list[bytes]:
    """What the upstream says to a form."""
    if form.startswith("tool-") and form != "tool-turns":
        return chunked(TOOLS_STREAM) if stream else whole(TOOLS_WHOLE)
    return chunked(STREAM) if stream else whole(WHOLE)


def documented() -> list[Case]:
    """Every form on every surface, whole and streamed."""
    cases = []
    for base in BASES:
        for stream in (False, True):
            kind = "stream" if stream else "whole"
            for form, fields in FORMS.items():
                request = chat(base, "chat", **fields, stream=stream)
                cases.append(Case(f"{form}-{base}-{kind}", request, answers(form, stream)))
            usage = {"stream_options": {"include_usage": True}} if stream else {"stream_options": None}
            request = chat(base, "known", **NEUTRAL, **usage, stream=stream)
            cases.append(Case(f"profile-neutral-{base}-{kind}", request, answers("", stream)))
            for mode in ("drop", "pass-through", "error"):
                for name, extra in (("user", {"user": "u-1"}), ("extras", EXTRAS), ("both", {"user": "u-1", **EXTRAS})):
                    request = chat(base, "chat", f"extra-parameters: {mode}", **extra, stream=stream)
                    cases.append(Case(f"{mode}-{name}-{base}-{kind}", request, answers("", stream)))
            request = chat(base, "chat", user="u-1", stream=stream)
            cases.append(Case(f"user-{base}-{kind}", request, answers("", stream)))
    return cases


def limited() -> list[Case]:
    """Keys with limits and budgets, prices, several targets, another deployment in place of a full one."""
    team, tiny, spent = SECRETS.values()
    cases = []
    for base in BASES:
        for stream in (False, True):
            kind = f"{base}-{'stream' if stream else 'whole'}"
            said = answers("", stream)
            for name, key, deployment, fields in (
                ("limited-unpriced", team, "chat", {}),
                ("limited-neutral", team, "priced", NEUTRAL),
                ("limited", team, "priced", {}),
                ("limited-tool", team, "priced", {"tools": [TOOL]}),
                ("limited-no-maximum", team, "priced", {"max_tokens": None}),
                ("limited-two-targets", team, "two", {}),
                ("priced", None, "priced", {}),
                ("two-targets-neutral", None, "two", NEUTRAL),
                ("no-target-left", None, "impossible", {}),
                ("requests-used-up", tiny, "chat", {}),
                ("requests-of-all-used-up", None, "once", {}),
                ("budget-used-up", spent, "chat", {}),
                ("budget-too-small", spent, "chat", {"max_tokens": 500}),
                ("spilled", None, "spills", {}),
            ):
                keyed = {} if key is None else {"key": key}
                cases.append(Case(f"{name}-{kind}", chat(base, deployment, **keyed, **fields, stream=stream), said))
        vectors = BASES[base].format(path="/embeddings", deployment="embed")
        body = b'{"model":"embed","input":"a"}'
        cases.append(Case(f"limited-vectors-{base}", post(vectors, body, key=team), whole(vectors_of(1))))
    return cases


def vectors_of(count: int) -> bytes:
    """An upstream's answer with as many vectors."""
    data = [{"index": number, "embedding": [0.25 * number, -1.5, 0.0]} for number in range(count)]
    return json.dumps({"data": data, "model": "e", "usage": {"prompt_tokens": count, "total_tokens": count}}).encode()


def others() -> list[Case]:
    """Embeddings and completions."""
    cases = []
    for base in BASES:
        target = BASES[base].format(path="/embeddings", deployment="embed")
        for name, fields, count in (
            ("one-text", {"input": "a text"}, 1),
            ("many-texts", {"input": ["a", "b", "c", "d", "e"]}, 5),
            ("dimensions", {"input": ["a"], "dimensions": 3}, 1),
            ("floats", {"input": ["a", "b"], "encoding_format": "float"}, 2),
            ("base64-many", {"input": ["a", "b"], "encoding_format": "base64"}, 2),
            ("kind-of-input", {"input": ["a"], "input_type": "query"}, 1),
            ("user", {"input": ["a"], "user": "u-1"}, 1),
            ("tokens", {"input": [[1, 2, 3]]}, 1),
            ("nothing", {"input": []}, 0),
            ("too-few-vectors", {"input": ["a", "b"]}, 1),
        ):
            body = json.dumps({"model": "embed", **fields}).encode()
            cases.append(Case(f"vectors-{name}-{base}", post(target, body), whole(vectors_of(count))))
        failed = whole(b'{"error":{"message":"m","code":"c"}}', "500 Oh")
        cases.append(Case(f"vectors-failed-{base}", post(target, b'{"model":"embed","input":"a"}'), failed))
        target = BASES[base].format(path="/completions", deployment="chat")
        legacy = (GOLDEN / "upstream" / "completions_stream.body").read_bytes()
        fields = {"model": "chat", "prompt": "Once", "max_tokens": 9}
        for name, more in (
            ("stream", {"stream": True}),
            ("stream-usage", {"stream": True, "stream_options": {"include_usage": True}}),
            ("echo", {"echo": True, "suffix": "end"}),
            ("two-prompts", {"prompt": ["a", "b"]}),
        ):
            pieces = chunked(legacy) if "stream" in more else whole(WHOLE)
            cases.append(Case(f"completions-{name}-{base}", post(target, json.dumps(fields | more).encode()), pieces))
    return cases


def failures() -> list[Case]:
    """Errors of each kind on each surface, before the answer and in the middle of it."""
    cases = []
    for base in BASES:
        for stream in (False, True):
            kind = f"{base}-{'stream' if stream else 'whole'}"
            cases += [
                Case(f"fails-401-{kind}", chat(base, key="wrong", stream=stream)),
                Case(f"fails-404-{kind}", chat(base, "absent", stream=stream)),
                Case(f"fails-400-{kind}", chat(base, "chat", "extra-parameters: maybe", stream=stream)),
                Case(f"fails-422-{kind}", chat(base, temperature=9, stream=stream)),
                Case(
                    f"fails-413-{kind}",
                    chat(base, messages=[{"role": "user", "content": "x" * 250_000}], stream=stream),
                ),
                Case(f"fails-503-{kind}", chat(base, stream=stream), draining=True),
                Case(f"fails-unreachable-{kind}", chat(base, "nobody", stream=stream)),
                Case(f"fails-closed-{kind}", chat(base, stream=stream), [], "closes"),
            ]
            if base != "root":  # it knows the default deployment alone, which is patient
                cases.append(Case(f"fails-504-{kind}", chat(base, "impatient", stream=stream), [], "waits"))
        if base != "root":
            silent = chunked(b"".join(TEXT))[:-1]
            cases.append(Case(f"falls-silent-{base}", chat(base, "impatient", stream=True), silent, "waits"))
        cases += [
            Case(f"breaks-with-an-error-{base}", chat(base, stream=True), chunked(BROKEN)),
            Case(f"breaks-off-{base}", chat(base, stream=True), chunked(b"".join(TEXT))[:-1], "closes"),
        ]
        for path in ("/chat/completions", "/embeddings", "/completions"):
            target = BASES[base].format(path=path, deployment="chat")
            for method in ("HEAD", "OPTIONS", "GET", "PUT", "DELETE", "PATCH"):
                cases.append(Case(f"{method}-{path[1:]}-{base}", post(target, b"", method=method)))
            cases.append(Case(f"trailing-slash-{path[1:]}-{base}", post(target.replace(path, path + "/"), b"{}")))
    return cases


TRAFFIC = [*documented(), *limited(), *others(), *failures()]
