"""The bytes of one chunk as the Azure AI Model Inference API writes them: keys in the order that was recorded."""

from __future__ import annotations

import msgspec

from modelport.core.answers import AnswerHead
from modelport.core.errors import ModelportError
from modelport.core.usage import TokenUsage
from modelport.dialects.azure_inference.errors import Form, payload
from modelport.dialects.openai_shape.stream import ChunkFrame
from modelport.dialects.openai_shape.usage_counts import usage_counts

_encode = msgspec.json.Encoder().encode


class InferenceFrame(ChunkFrame):
    """`"usage"` only on the chunk that has counts."""

    def __init__(self, head: AnswerHead, object: str, form: Form) -> None:
        said = {"created": head.created, "id": head.id, "model": head.model, "object": object}
        self._identity = b"]," + _encode(said)[1:-1]
        self._form = form

    def chunk(self, choices: bytes, usage: bytes | None = None, extra: bytes = b"") -> bytes:
        counts = b"" if usage is None else b',"usage":' + usage
        return b'data: {"choices":[' + choices + self._identity + counts + extra + b"}\n\n"

    def choice(
        self, index: int, inner: bytes, finish_reason: bytes = b"null", logprobs: bytes = b"null", extra: bytes = b""
    ) -> bytes:
        return b'{%b,"finish_reason":%b,"index":%d,"logprobs":%b%b}' % (inner, finish_reason, index, logprobs, extra)

    def broken(self, error: ModelportError) -> bytes:
        said = _encode(payload(error, form=self._form)["error"])
        return b'data: {"error":' + said + b',"choices":[' + self._identity + b"}\n\n"

    def usage(self, usage: TokenUsage) -> bytes:
        return _encode(usage_counts(usage, always_detailed=False))
