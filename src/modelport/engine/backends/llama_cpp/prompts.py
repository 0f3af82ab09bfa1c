"""Turns messages into the token ids of a prompt, with the model's own template."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.segments import Segment, fill, joined, placeholder, without_markup
from modelport.engine.backends.llama_cpp.vocabulary import Vocabulary
from modelport.engine.local_http import LocalHttp, LocalHttpStatusError

_REMEMBERED_PIECES = 512
_REMEMBERED_PIECE_CHARACTERS = 4096

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A message as a template knows it."""

    role: Role
    content: tuple[Segment, ...]


class Tokeniser:
    """The engine's tokeniser; pieces of templates are remembered, other people's texts are not. A text that cannot fit
    the context is refused by its length."""

    def __init__(self, native: LocalHttp, vocabulary: Vocabulary, context: int) -> None:
        self._native = native
        self._vocabulary = vocabulary
        self._context = context
        self._control = tuple(vocabulary.control.values())
        self._remembered: dict[tuple[str, bool], list[int]] = {}

    async def encode(self, segments: Iterable[Segment], *, begins: bool = True, param: str = "messages") -> list[int]:
        """Token ids; `begins` adds what the model wants at the very start of a text. Raises context_length_exceeded for
        `param` as soon as it is certain, which is before any work for a text with too many bytes."""
        tokens: list[int] = []
        before = ""
        runs = joined(segments)
        length_bytes = sum(len(run.text.encode("utf-8", "replace")) for run in runs)
        check_room(length_bytes // self._vocabulary.longest_token_bytes, 0, self._context, param)
        for run in runs:
            if not run.is_trusted:
                check_room(len(tokens), 0, self._context, param)
            for text in [run.text] if run.is_trusted else without_markup(run.text, self._vocabulary.markup):
                tokens += await self._encode_after(before, text, run.is_trusted, begins and not tokens)
                before = text
        beginning = self._vocabulary.beginning
        if begins and beginning is not None and tokens[:2] == [beginning, beginning]:
            return tokens[1:]  # the template wrote it as well
        return tokens

    async def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, control tokens included."""
        answer = await self._native.call("POST", "/detokenize", {"tokens": list(tokens)})
        return str(answer["content"])

    async def _encode_after(self, before: str, text: str, is_trusted: bool, begins: bool) -> list[int]:
        """`text` as it is tokenised when it continues `before`.

        Some vocabularies put a space in front of every text: right at the start and after a control token (the engine
        does it there too), one space too many anywhere else.
        """
        if not before or not self._vocabulary.adds_space_prefix or before.endswith(self._control):
            return await self._tokens(text, is_trusted, begins)
        guard = await self._tokens("\n", is_trusted=False, begins=False)
        tokens = await self._tokens("\n" + text, is_trusted, begins=False)
        if tokens[: len(guard)] == guard:
            return tokens[len(guard) :]
        return await self._tokens(text, is_trusted, begins=False)

    async def _tokens(self, text: str, is_trusted: bool, begins: bool) -> list[int]:
        if (is_trusted or text == "\n") and (text, begins) in self._remembered:
            return self._remembered[text, begins]
        body = {"content": text, "parse_special": is_trusted, "add_special": begins}
        tokens: list[int] = (await self._native.call("POST", "/tokenize", body))["tokens"]
        if (is_trusted or text == "\n") and len(text) <= _REMEMBERED_PIECE_CHARACTERS:
            if len(self._remembered) >= _REMEMBERED_PIECES:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[text, begins] = tokens
        return tokens


class ChatTemplate:
    """The template in the weights. Contents never pass through it: it is rendered around placeholders."""

    def __init__(self, native: LocalHttp, *, has_system_role: bool) -> None:
        self._native = native
        self._has_system_role = has_system_role
        self._mark = f"Zq{secrets.token_hex(8)}x"

    @classmethod
    async def open(cls, native: LocalHttp) -> ChatTemplate:
        """Asks the template once whether it knows a system role."""
        template = cls(native, has_system_role=True)
        told = (Segment("told"),)
        turns = [Turn("system", told), Turn("user", (Segment("asked"),))]
        try:
            knows = told[0] in await template.render(turns)
        except WorkerError:
            knows = False
        return cls(native, has_system_role=knows)

    async def render(self, turns: Sequence[Turn]) -> list[Segment]:
        """The conversation up to where the assistant speaks next."""
        turns = turns if self._has_system_role else _with_system_folded(turns)
        messages = [
            {"role": turn.role, "content": placeholder(self._mark, at) if any(s.text for s in turn.content) else ""}
            for at, turn in enumerate(turns)
        ]
        try:
            answer = await self._native.call("POST", "/apply-template", {"messages": messages})
        except LocalHttpStatusError as error:
            raise WorkerError(
                400, "invalid_messages", "The model's chat template does not accept these roles in this order.",
                param="messages",
            ) from error  # fmt: skip
        return fill(str(answer["prompt"]), self._mark, [turn.content for turn in turns])


def _with_system_folded(turns: Sequence[Turn]) -> list[Turn]:
    """System texts in front of the user turn that follows, for templates that know no system role."""
    folded: list[Turn] = []
    pending: list[Segment] = []
    for turn in turns:
        if turn.role == "system":
            pending += [*turn.content, Segment("\n\n")]
        elif turn.role == "user" and pending:
            folded.append(Turn("user", (*pending, *turn.content)))
            pending = []
        else:
            folded.append(turn)
    return [*folded, Turn("user", tuple(pending))] if pending else folded


def check_room(prompt_tokens: int, completion_tokens: int | None, context: int, param: str) -> int:
    """How many tokens may be made. Refuses a prompt that leaves room for none, and more tokens than the context has."""
    room = context - prompt_tokens
    if room < 0 or (room == 0 and completion_tokens != 0) or (completion_tokens or 0) > context:
        asked = 1 if completion_tokens is None else completion_tokens
        raise WorkerError(
            400, "context_length_exceeded",
            f"This model's maximum context length is {context} tokens. However, you requested "
            f"{prompt_tokens + asked} tokens ({prompt_tokens} in the {param}, {asked} in the completion). "
            f"Please reduce the length of the {param} or completion.",
            param=param,
        )  # fmt: skip
    return room if completion_tokens is None else min(completion_tokens, room)
