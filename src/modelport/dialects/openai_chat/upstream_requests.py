"""What is asked, in OpenAI's wire shape, for an upstream: standard fields first, then the extras as they were sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, get_args
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Struct, structs

from modelport.core.content import Message, OpenResponseFormat
from modelport.core.ports.providers import UpstreamRequest
from modelport.core.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    NamedToolChoice,
    Request,
)
from modelport.dialects.openai_shape.open_fields import wire, wire_message

MaxTokensName = Literal["max_tokens", "max_completion_tokens"]

_OURS: Final = frozenset({"model", "messages", "prompt", "input", "stream", "stream_options", "encoding_format"})
"""No extra replaces these."""
MAX_TOKENS_NAMES: Final = frozenset(get_args(MaxTokensName))
_NOT_SENT: Final = frozenset({"extra", "body_bytes", "speaks_functions"})
_encode: Final = msgspec.json.Encoder().encode


class UpstreamFacts(Struct, frozen=True, kw_only=True):
    """How one host's dialect differs from the others'. The defaults suit most."""

    chat_path: str = "/chat/completions"
    """Paths may hold `{model}`: the upstream's name of the model."""
    completions_path: str = "/completions"
    embeddings_path: str = "/embeddings"
    image_embeddings_path: str = "/images/embeddings"
    query: str = ""
    """Without the question mark: `api-version=…`."""
    max_tokens_name: MaxTokensName | None = None
    """The only spelling that it takes; None: either, as it was sent."""
    asks_stream_usage: bool = True
    """Does it know `stream_options`? Some refuse it and report usage all the same."""
    asks_running_usage: bool = False
    """Does each event say what was used until then?"""
    embeddings_format: Literal["base64", "float"] | None = "base64"
    """How vectors are asked for; None: not asked, the host sends what it sends."""
    has_developer_role: bool = False
    """Otherwise such turns are sent as `system`."""
    takes_reasoning: bool = True
    """May earlier turns carry `reasoning_content`?"""
    takes_security_context: bool = False
    """Only Azure does; nobody else is told who the end user is."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Parameters that it spells in its own way: (ours, its)."""


class UpstreamEncoder:
    """Requests of one operation for one model, all of them streamed or none: made once, used for each."""

    def __init__(
        self, request: Request, model: str, facts: UpstreamFacts, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """`request`: any of them; `model`: the upstream's own name of it."""
        self._model = model
        self._facts = facts
        path, self._complete = OPERATIONS[type(request)]
        path = getattr(facts, path).replace("{model}", quote(model, safe=""))
        self._path = f"{path}?{facts.query}" if facts.query else path
        accepted = "text/event-stream" if request.stream else "application/json"
        self._headers = (("Content-Type", "application/json"), ("Accept", accepted), *headers)
        spelled = dict(facts.renamed)
        if isinstance(request, ChatRequest) and facts.max_tokens_name is not None:
            spelled["max_tokens"] = facts.max_tokens_name
        self._body, names = _body_of(type(request), tuple(spelled.items()))
        self._count = len(names) + 2
        self._attributes = {spelled.get(name, name): name for name in names}
        self._special = _OURS | MAX_TOKENS_NAMES | self._attributes.keys()
        """Extras that are not just sent on."""

    def encode(self, request: Request) -> UpstreamRequest:
        """The upstream's own request."""
        values = structs.astuple(request)
        body = self._body(self._model, values[0], *values[2 : self._count])
        self._complete(body, request, self._facts)
        extra = request.extra
        if extra and not self._special.isdisjoint(extra):
            extra = self._further(body, extra)
        written = _encode(body)
        if extra:
            written = b"%b,%b" % (written[:-1], _encode(extra)[1:])
        return UpstreamRequest(self._path, written, self._headers, request.stream)

    def _further(self, body: Any, extra: dict[str, Any]) -> dict[str, Any]:
        """The extras that come after the body's own fields. One that is such a field fills it, if it is empty."""
        more: dict[str, Any] = {}
        for name, value in extra.items():
            if name in _OURS:
                continue
            if name in MAX_TOKENS_NAMES:
                name = self._facts.max_tokens_name or name
            attribute = self._attributes.get(name)
            if attribute is None:
                more.setdefault(name, value)
            elif getattr(body, attribute) is None:
                setattr(body, attribute, value)
        return more


@lru_cache(256)
def _body_of(request: type[Request], spelled: tuple[tuple[str, str], ...]) -> tuple[Any, list[str]]:
    """What an upstream is sent for such requests: the model, then their own fields in order; and the names of those
    that may be absent."""
    fields = [field for field in structs.fields(request) if field.name not in _NOT_SENT]
    defaults = {field.name: field.default for field in fields[2:]}
    if "encoding_format" in defaults:
        defaults["encoding_format"] = UNSET  # the upstream's default is not ours
    columns: list[Any] = [
        ("model", str),
        (fields[0].name, Any),
        *((name, Any, default) for name, default in defaults.items()),
    ]
    body = msgspec.defstruct("UpstreamBody", columns, omit_defaults=True, gc=False, rename=dict(spelled))
    return body, list(defaults)


def _chat(body: Any, request: ChatRequest, facts: UpstreamFacts) -> None:
    for message in request.messages:
        is_text = type(message.content) is str and message.reasoning_content is None and message.role != "developer"
        if not is_text or type(message) is not Message:
            body.messages = [_message(message, facts) for message in request.messages]
            break
    if type(request.response_format) is OpenResponseFormat:
        body.response_format = wire(request.response_format)
    if request.tools:
        body.tools = [wire(tool) for tool in request.tools]
    if type(request.tool_choice) is NamedToolChoice:
        body.tool_choice = {"type": "function", "function": {"name": request.tool_choice.name}}
    if request.user_security_context is not None and not facts.takes_security_context:
        body.user_security_context = None
    if request.stream or request.stream_options is not None:
        body.stream_options = _stream_options(request, facts)


def _message(message: Message, facts: UpstreamFacts) -> Any:
    if message.role == "developer" and not facts.has_developer_role:
        message = structs.replace(message, role="system")
    if message.reasoning_content is not None and not facts.takes_reasoning:
        message = structs.replace(message, reasoning_content=None)
    if message.content is None and not message.tool_calls:
        message = structs.replace(message, content="")  # null and absence are refused by many
    return wire_message(message)


def _completions(body: Any, request: CompletionsRequest, facts: UpstreamFacts) -> None:
    if len(request.prompt) == 1:
        body.prompt = request.prompt[0]
    if request.stream or request.stream_options is not None:
        body.stream_options = _stream_options(request, facts)


def _stream_options(request: ChatRequest | CompletionsRequest, facts: UpstreamFacts) -> dict[str, Any] | None:
    if not request.stream:
        return None
    options = {} if request.stream_options is None else dict(getattr(request.stream_options, "extra", {}))
    if facts.asks_stream_usage:
        # Asked for whatever the caller wants: the gateway counts what is made.
        options = {"include_usage": True, **options}
    if facts.asks_running_usage:
        options["continuous_usage_stats"] = True
    return options or None


def _vectors(body: Any, request: EmbeddingsRequest | ImageEmbeddingsRequest, facts: UpstreamFacts) -> None:
    body.encoding_format = facts.embeddings_format or UNSET


OPERATIONS: Final[dict[type[Request], tuple[str, Callable[[Any, Any, UpstreamFacts], None]]]] = {
    ChatRequest: ("chat_path", _chat),
    CompletionsRequest: ("completions_path", _completions),
    EmbeddingsRequest: ("embeddings_path", _vectors),
    ImageEmbeddingsRequest: ("image_embeddings_path", _vectors),
}
"""Which of UpstreamFacts has the path, and what an upstream is told otherwise than the request has it."""
