"""Chat completions: a request in, `chat.completion.chunk` objects out."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.backends.llama_cpp.answering import Plan, Tally, answer, read_plan, wants_running_usage
from modelport.engine.backends.llama_cpp.generate import Ending
from modelport.engine.backends.llama_cpp.messages import read_turns
from modelport.engine.backends.llama_cpp.model import Model
from modelport.engine.backends.llama_cpp.prompts import check_room
from modelport.engine.backends.llama_cpp.sampling import read_token_limit
from modelport.engine.backends.llama_cpp.schemas import Constraint, read_response_format
from modelport.engine.backends.llama_cpp.segments import Segment
from modelport.engine.backends.llama_cpp.tools import ToolUse, read_tool_use
from modelport.engine.backends.llama_cpp.writers import AutoCallWriter, Delta, ForcedCallWriter, TextWriter, Writer

_CALL_BEGINS = Segment("<tool_call>\n", is_trusted=True)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A chat request, checked."""

    plan: Plan
    prompt: list[int]
    limit: int
    constraint: Constraint | None
    use: ToolUse | None

    @property
    def engine_fields(self) -> Mapping[str, Any]:
        """The grammar, if there is one."""
        grammar = self.use or self.constraint
        return {} if grammar is None else {"grammar": grammar.grammar()}

    def writer(self) -> Writer:
        """What makes deltas of one choice's pieces."""
        if self.use is None:
            return TextWriter(self.constraint)
        return ForcedCallWriter(self.use) if self.use.mode == "forced" else AutoCallWriter(self.use)


async def chat(request: JsonObject, model: Model) -> AsyncGenerator[JsonObject]:
    """The answer's chunks and then its usage; `Backend.chat`'s promise."""
    asked = await _read(request, model)
    tally = Tally(len(asked.prompt))
    writers: dict[int, Writer] = {}
    envelope = _Envelope(model.settings.name, tally if wants_running_usage(request) else None)
    pieces = answer(model, asked.plan, [asked.prompt], [asked.limit], tally, asked.engine_fields)
    async with aclosing(pieces):
        async for index, piece in pieces:
            if index not in writers:
                writers[index] = asked.writer()
                yield envelope.chunk(index, Delta({"role": "assistant", "content": ""}))
            if not isinstance(piece, Ending):
                fed = writers[index].feed(piece)
                for delta in fed:
                    yield envelope.chunk(index, delta)
                if not fed and envelope.running is not None:
                    yield envelope.wrap([], tally.usage())
                continue
            deltas, reason = writers[index].end(piece)
            for delta in deltas:
                yield envelope.chunk(index, delta)
            yield envelope.chunk(index, Delta({}), reason)
    yield envelope.wrap([], tally.usage())


async def count_prompt(request: JsonObject, model: Model) -> int:
    """How many tokens a chat request's prompt has."""
    use = read_tool_use(request, model.tool_ability)
    return len(await _prompt(request, model, use))


async def _read(request: JsonObject, model: Model) -> _Asked:
    plan = await read_plan(request, model, may_best_equal_n=False)
    if request.get("echo") or request.get("suffix"):
        raise WorkerError.unsupported("echo" if request.get("echo") else "suffix", "Only text completions do this.")
    constraint = read_response_format(request.get("response_format"))
    use = read_tool_use(request, model.tool_ability)
    if use is not None and constraint is not None:
        raise WorkerError.unsupported("response_format", "'response_format' does not go with 'tools' on this model.")
    if use is not None or constraint is not None:
        _refuse_with_grammar(plan)
    prompt = await _prompt(request, model, use)
    asked = read_token_limit(request, model.settings.default_max_tokens)
    limit = check_room(len(prompt), asked, model.context, "messages")
    grammar = use or constraint
    if grammar is not None and limit:
        await model.trial.require_followed(grammar.trials(), "response_format" if use is None else "tools")
    return _Asked(plan, prompt, limit, constraint, use)


def _refuse_with_grammar(plan: Plan) -> None:
    for name, is_asked in (
        ("ignore_eos", plan.sampling.ignores_end),
        ("min_tokens", plan.sampling.min_tokens),
        ("use_beam_search", plan.uses_beams),
    ):
        if is_asked:
            raise WorkerError.unsupported(name, f"'{name}' does not go with tools or a response format.")


async def _prompt(request: JsonObject, model: Model, use: ToolUse | None) -> list[int]:
    turns = read_turns(request, None if use is None else use.prompt())
    segments = await model.template.render(turns)
    if use is not None and use.mode == "forced":
        segments = [*segments, _CALL_BEGINS]
    return await model.tokeniser.encode(segments)


class _Envelope:
    """What every chunk of one answer carries."""

    def __init__(self, model: str, running: Tally | None) -> None:
        self._fields: JsonObject = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self.running = running
        """Goes with each chunk."""

    def chunk(self, index: int, delta: Delta, reason: str | None = None) -> JsonObject:
        logprobs = {"content": list(delta.logprobs)} if delta.logprobs else None
        choice = {"index": index, "delta": delta.fields, "logprobs": logprobs, "finish_reason": reason}
        return self.wrap([choice], None if self.running is None else self.running.usage())

    def wrap(self, choices: list[JsonObject], usage: JsonObject | None) -> JsonObject:
        chunk = {**self._fields, "choices": choices}
        return chunk if usage is None else {**chunk, "usage": usage}
