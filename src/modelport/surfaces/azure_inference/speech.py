"""How this surface speaks each operation."""

from __future__ import annotations

from collections.abc import Callable

from modelport.core.answers import AnswerHead, ChatAnswer, CompletionsAnswer, EmbeddingsAnswer
from modelport.core.operations import Operation
from modelport.core.requests import ChatRequest, CompletionsRequest, Request
from modelport.dialects.azure_inference import answers, requests
from modelport.dialects.azure_inference.errors import Form
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.codec import Speech, StreamWriter
from modelport.gateway.fold import WholeAnswer


def chat(form: Form) -> Speech:
    """Chat completions."""

    def stream(head: AnswerHead, request: Request, reasoning: ReasoningPlace) -> StreamWriter:
        assert isinstance(request, ChatRequest)
        return answers.ChatStream(head, include_usage=request.include_usage, reasoning=reasoning, form=form)

    return Speech(
        decode=requests.decode_chat,
        whole=whole_chat,
        stream=stream,
        new_id=answers.new_id,
    )


def completions(form: Form) -> Speech:
    """Text completions."""

    def stream(head: AnswerHead, request: Request, reasoning: ReasoningPlace) -> StreamWriter:
        assert isinstance(request, CompletionsRequest)
        return answers.CompletionsStream(head, include_usage=request.include_usage, form=form)

    return Speech(
        decode=requests.decode_completions,
        whole=whole_completions,
        stream=stream,
        new_id=answers.new_id,
    )


def embeddings(form: Form) -> Speech:
    """Vectors of texts."""
    return Speech(
        decode=requests.decode_embeddings,
        whole=whole_embeddings,
        new_id=answers.new_id,
    )


def image_embeddings(form: Form) -> Speech:
    """Vectors of pictures."""
    return Speech(
        decode=requests.decode_image_embeddings,
        whole=whole_embeddings,
        new_id=answers.new_id,
    )


def score() -> Speech:
    """A managed endpoint's `/score`. What shape the answer has depends on the request's: made anew for each call."""
    asked: list[requests.ScoreRequest] = []

    def decode(body: bytes, depth: int) -> Request:
        asked.append(requests.decode_score(body, json_depth=depth))
        return asked[0].request

    def whole(head: AnswerHead, request: Request, answer: WholeAnswer, reasoning: ReasoningPlace) -> bytes:
        assert not isinstance(answer, EmbeddingsAnswer)
        return answers.whole_score(asked[0], answer)

    return Speech(decode=decode, whole=whole, new_id=answers.new_id)


SPEECHES: dict[Operation, Callable[[Form], Speech]] = {
    Operation.CHAT_COMPLETIONS: chat,
    Operation.COMPLETIONS: completions,
    Operation.EMBEDDINGS: embeddings,
    Operation.IMAGE_EMBEDDINGS: image_embeddings,
}


def whole_chat(head: AnswerHead, request: Request, answer: WholeAnswer, reasoning: ReasoningPlace) -> bytes:
    """One JSON object."""
    assert isinstance(answer, ChatAnswer)
    return answers.whole_chat(head, answer, reasoning=reasoning)


def whole_completions(head: AnswerHead, request: Request, answer: WholeAnswer, reasoning: ReasoningPlace) -> bytes:
    """One JSON object."""
    assert isinstance(answer, CompletionsAnswer)
    return answers.whole_completions(head, answer)


def whole_embeddings(head: AnswerHead, request: Request, answer: WholeAnswer, reasoning: ReasoningPlace) -> bytes:
    """One JSON object."""
    assert isinstance(answer, EmbeddingsAnswer) and not isinstance(request, ChatRequest | CompletionsRequest)
    return answers.whole_embeddings(head, answer, request.encoding_format)
