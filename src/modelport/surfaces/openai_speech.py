"""How the two OpenAI surfaces speak each operation: alike."""

from __future__ import annotations

from typing import Final

from modelport.core.answers import AnswerHead, ChatAnswer, CompletionsAnswer, EmbeddingsAnswer
from modelport.core.operations import Operation
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, Request
from modelport.dialects.openai_chat import answers, requests
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.codec import Speech, StreamWriter
from modelport.gateway.fold import WholeAnswer


def chat_stream(head: AnswerHead, request: Request, reasoning: ReasoningPlace) -> StreamWriter:
    """A chat answer as events."""
    assert isinstance(request, ChatRequest)
    writer = answers.FunctionStream if request.speaks_functions else answers.ChatStream
    return writer(head, include_usage=request.include_usage, reasoning=reasoning)


def completions_stream(head: AnswerHead, request: Request, reasoning: ReasoningPlace) -> StreamWriter:
    """A text completion as events."""
    assert isinstance(request, CompletionsRequest)
    return answers.CompletionsStream(head, include_usage=request.include_usage)


def whole_chat(head: AnswerHead, request: Request, answer: WholeAnswer, reasoning: ReasoningPlace) -> bytes:
    """A chat answer as one JSON object."""
    assert isinstance(answer, ChatAnswer)
    speaks_functions = isinstance(request, ChatRequest) and request.speaks_functions
    return answers.whole_chat(head, answer, reasoning=reasoning, speaks_functions=speaks_functions)


def whole_completions(head: AnswerHead, request: Request, answer: WholeAnswer, reasoning: ReasoningPlace) -> bytes:
    """A text completion as one JSON object."""
    assert isinstance(answer, CompletionsAnswer)
    return answers.whole_completions(head, answer)


def whole_embeddings(head: AnswerHead, request: Request, answer: WholeAnswer, reasoning: ReasoningPlace) -> bytes:
    """Vectors as one JSON object."""
    assert isinstance(answer, EmbeddingsAnswer) and isinstance(request, EmbeddingsRequest)
    return answers.whole_embeddings(head, answer, request.encoding_format)


SPEECHES: Final = {
    Operation.CHAT_COMPLETIONS: Speech(
        decode=requests.decode_chat,
        whole=whole_chat,
        stream=chat_stream,
        new_id=answers.new_id,
    ),
    Operation.COMPLETIONS: Speech(
        decode=requests.decode_completions,
        whole=whole_completions,
        stream=completions_stream,
        new_id=answers.new_completions_id,
    ),
    Operation.EMBEDDINGS: Speech(
        decode=requests.decode_embeddings,
        whole=whole_embeddings,
        new_id=str,  # this answer has no id
    ),
}

PATHS: Final = {
    Operation.CHAT_COMPLETIONS: "/chat/completions",
    Operation.COMPLETIONS: "/completions",
    Operation.EMBEDDINGS: "/embeddings",
}
