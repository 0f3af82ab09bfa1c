"""The bytes of one chunk as OpenAI writes them."""

from __future__ import annotations

import msgspec

from modelport.core.answers import AnswerHead
from modelport.core.errors import ModelportError
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.errors import payload
from modelport.dialects.openai_shape.stream import ChunkFrame
from modelport.dialects.openai_shape.usage_counts import usage_counts

_encode = msgspec.json.Encoder().encode


class OpenAIFrame(ChunkFrame):
    """With `include_usage` every chunk says `"usage":null` but the last, which has the counts and no choice."""

    has_annotations = True

    def __init__(self, head: AnswerHead, object: str, include_usage: bool) -> None:
        said = {"id": head.id, "object": object, "created": head.created, "model": head.model}
        self._identity = _encode(said)[1:-1]
        self._start = b"data: {" + self._identity + b',"choices":['
        self._end = b'],"usage":null' if include_usage else b"]"

    def chunk(self, choices: bytes, usage: bytes | None = None, extra: bytes = b"") -> bytes:
        end = self._end if usage is None else b'],"usage":' + usage
        return self._start + choices + end + extra + b"}\n\n"

    def choice(
        self, index: int, inner: bytes, finish_reason: bytes = b"null", logprobs: bytes = b"null", extra: bytes = b""
    ) -> bytes:
        return b'{"index":%d,%b,"logprobs":%b,"finish_reason":%b%b}' % (index, inner, logprobs, finish_reason, extra)

    def broken(self, error: ModelportError) -> bytes:
        said = _encode(payload(error)["error"])
        return b'data: {"error":' + said + b"," + self._identity + b',"choices":[]}\n\n'

    def usage(self, usage: TokenUsage) -> bytes:
        return _encode(usage_counts(usage, always_detailed=True))
