"""Grammars are compiled in a fork with bounds; one that the engine cannot follow at a bearable cost is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from running_worker import find_weights

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp import trial_process
from modelport.engine.backends.llama_cpp.llguidance import GrammarCompiler, GrammarError, is_allowed, token_bytes
from modelport.engine.backends.llama_cpp.schemas import GRAMMAR_HEAD, make_constraint
from modelport.engine.backends.llama_cpp.tools import read_tool_use
from modelport.engine.backends.llama_cpp.trial import GrammarTrial
from modelport.engine.backends.llama_cpp.trial_process import try_in_fork

END = 256


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    """For a vocabulary of single bytes, a few words, and the end."""
    words = [b"one", b'": "', b'{"', b'"}', b"123"]
    return GrammarCompiler([*(bytes([byte]) for byte in range(256)), b"\xff<end>", *words], END)


def verdict(compiler: GrammarCompiler, schema: Any) -> str | None:
    return try_in_fork(compiler, make_constraint(schema, "response_format").trials())


WIDE = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(900)}}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({}, None),
        ({"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "#"}}}, "required": ["a"]}, None),
        ({"type": "string", "pattern": "^(ab|c)*d{3}$"}, None),
        ({"type": "string", "format": "date", "maxLength": 4}, "the engine cannot follow it (Unsatisfiable"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "the engine cannot follow it"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "the alternatives of its 'oneOf' overlap; use 'anyOf'"),
        (WIDE, "it has too many choices at one place"),
        ({"type": "array", "items": WIDE, "minItems": 1}, "it has too many choices at one place"),
    ],
)
def test_the_compilers_reason_is_the_reason(compiler: GrammarCompiler, schema: Any, fault: str | None) -> None:
    found = verdict(compiler, schema)
    assert found is None if fault is None else found is not None and fault in found


ENDLESS = GRAMMAR_HEAD + 'start: %json {"type": "integer", "multipleOf": 12345677}\n'


def test_a_grammar_that_takes_too_long_or_too_much_ends_only_its_fork(compiler: GrammarCompiler) -> None:
    for _ in range(2):
        found = try_in_fork(compiler, [ENDLESS])
        assert found is not None
        assert found.startswith("the engine needs more than")
    assert verdict(compiler, {"type": "string"}) is None


def test_memory_is_bounded_too(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_process, "MEMORY_BYTES", 16 << 20)
    monkeypatch.setattr(trial_process, "CPU_SECONDS", 100.0)
    found = try_in_fork(compiler, [ENDLESS])
    assert found is not None
    assert found.startswith("the engine needs more than")


def test_costly_parts_are_tried_by_themselves() -> None:
    deep = {
        "type": "array",
        "items": {"properties": {"a": {"type": "string", "pattern": "^x"}, "b": {"multipleOf": 7}}},
    }
    grammars = make_constraint(deep, "response_format").trials()
    assert [json.loads(one.partition("%json ")[2]).keys() & {"pattern", "multipleOf"} for one in grammars[1:]] == [
        {"multipleOf"},
        {"pattern"},
    ]


FOLLOWED: list[dict[str, Any]] = [
    {"type": ["integer", "null"]},
    {"enum": ["a", 1, None, {"b": [2]}]},
    {"const": {"a": ['"', 1.5]}},
    {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    {"oneOf": [{"const": "a"}, {"const": "b"}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]},
    {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2},
    {"type": "object", "patternProperties": {"^a": {"type": "boolean"}}, "additionalProperties": False},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False, "minItems": 2},
    {"type": "string", "minLength": 2, "maxLength": 3},
    {"type": "string", "pattern": "^a+b$"},
    {"type": "string", "pattern": "ab", "maxLength": 6},
    *({"type": "string", "format": name} for name in ("date", "duration", "ipv4", "uuid")),
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 9},
    {"type": "integer", "multipleOf": 7, "minimum": -50, "maximum": 50},
    {"$ref": "#/$defs/x", "$defs": {"x": {"type": "boolean"}}},
]


@pytest.mark.parametrize("schema", FOLLOWED, ids=json.dumps)
def test_every_keyword_that_is_taken_is_followed(compiler: GrammarCompiler, schema: dict[str, Any]) -> None:
    """Texts drawn from the grammar match the schema, formats included."""
    constraint = make_constraint(schema, "response_format")
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    whole = 0
    for seed in range(40):
        text = compiler.walk(constraint.grammar(), 60, compiler.draw(seed)).removesuffix(b"\xff<end>")
        try:
            value = json.loads(text)
        except ValueError:
            continue  # cut, or bytes that are no character
        whole += 1
        assert validator.is_valid(value), text
    assert whole > 5


CITY = {"type": "object", "properties": {"city": {"enum": ["Rome", "Paris"]}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "get_time"}},
]
PARIS, NOW = '{"name": "get_weather", "arguments": {"city": "Paris"}}', '{"name": "get_time", "arguments": {}}'


@pytest.mark.parametrize(
    ("fields", "text", "allowed"),
    [
        ({}, "Well, {it} is `so`: <b>", True),
        ({}, PARIS, True),
        ({}, f"{PARIS}\n{NOW}", True),
        ({}, f"```json\n{NOW}\n```", True),
        ({}, f"Let me see: {NOW}", True),
        ({}, f"Let me see:\n```json\n{PARIS}\n```", True),
        ({}, f"Let me see:\n<tool_call>\n{PARIS}\n</tool_call>\n<tool_call>\n{NOW}\n</tool_call>", True),
        ({}, '{"a": 1}', False),
        ({}, 'So: {"name": "other"', False),
        ({}, 'So: {"name": "get_weather", "arguments": {"town"', False),
        ({}, f"So: {NOW} and", False),
        ({"parallel_tool_calls": False}, PARIS, True),
        ({"parallel_tool_calls": False}, f"{PARIS}\n{NOW}", False),
        ({"parallel_tool_calls": False}, f"So: {PARIS}\n{NOW}", False),
        ({"tool_choice": "required"}, PARIS, True),
        ({"tool_choice": "required"}, "Well", False),
        ({"tool_choice": {"type": "function", "function": {"name": "get_time"}}}, PARIS, False),
        ({"tool_choice": "get_time"}, NOW, True),
    ],
)
def test_a_model_may_write_text_or_calls_and_nothing_between(
    compiler: GrammarCompiler, fields: dict[str, Any], text: str, allowed: bool
) -> None:
    use = read_tool_use({"tools": TOOLS, **fields}, "auto")
    assert use is not None
    rest = list(text.encode())

    def spell(words: Sequence[int]) -> int | None:
        return rest.pop(0) if rest and is_allowed(rest[0], words) else None

    compiler.walk(use.grammar(), len(text), spell)
    assert (not rest) is allowed


def test_a_grammar_that_is_none_is_refused(compiler: GrammarCompiler) -> None:
    with pytest.raises(GrammarError):
        compiler.walk("%llguidance {}\nstart: nothing\n", 1, compiler.draw(0))


def test_tokens_are_bytes_in_every_vocabulary() -> None:
    letters = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["Ġa", "Ċ", "é<>", "<|x|>"]}
    assert token_bytes({**letters, "tokenizer.ggml.token_type": [1, 1, 1, 3]}) == [
        b" a",
        b"\n",
        b"\xe9<>",
        b"\xff<|x|>",
    ]
    pieces = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["▁a", "<0x0A>", "é"]}
    assert token_bytes(pieces) == [b" a", b"\n", "é".encode()]


@pytest.mark.embedded
async def test_trials_outlive_their_callers_and_their_process() -> None:
    trial = GrammarTrial(find_weights("smollm2-135m-instruct", "*[sS]mol[lL][mM]2*.gguf"))
    grammars = make_constraint({"type": "integer"}, "response_format").trials()
    try:
        leaving = asyncio.create_task(trial.require_followed(grammars, "response_format"))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await trial.require_followed(grammars, "response_format")
        with pytest.raises(WorkerError) as raised:
            await trial.require_followed([ENDLESS], "tools")
        assert (raised.value.status, raised.value.code, raised.value.param) == (422, "invalid_schema", "tools")
        await trial.close()  # as when it has been idle, or was killed
        other = make_constraint({"type": "boolean"}, "response_format").trials()
        await trial.require_followed(other, "response_format")
    finally:
        await trial.close()


async def test_a_trial_that_cannot_run_lets_no_grammar_through(tmp_path: Path) -> None:
    trial = GrammarTrial(tmp_path / "absent.gguf")
    for _ in range(2):
        with pytest.raises(WorkerError) as raised:
            await trial.require_followed([ENDLESS], "tools")
        assert (raised.value.status, raised.value.code) == (500, "engine_failed")
