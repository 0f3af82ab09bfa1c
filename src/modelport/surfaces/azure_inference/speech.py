"""How this surface speaks each operation."""

from __future__ import annotations

from collections.abc import Callable

from modelport.core.answers import AnswerHead
from modelport.core.operations import Operation
from modelport.core.requests import ChatRequest, CompletionsRequest, Request
from modelport.dialects.azure_inference import answers, requests
from modelport.dialects.azure_inference.errors import Form
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.call import Answer
from modelport.gateway.fold import fold_chat, fold_completions, fold_embeddings
from modelport.surfaces.door import Speech, StreamWriter


def chat(form: Form) -> Speech:
    """Chat completions."""

    def stream(head: AnswerHead, request: Request, reasoning: ReasoningPlace) -> StreamWriter:
        assert isinstance(request, ChatRequest)
        return answers.ChatStream(head, include_usage=request.include_usage, reasoning=reasoning, form=form)

    return Speech(
        decode=lambda body, depth: requests.decode_chat(body, json_depth=depth),
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
        decode=lambda body, depth: requests.decode_completions(body, json_depth=depth),
        whole=whole_completions,
        stream=stream,
        new_id=answers.new_id,
    )


def embeddings(form: Form) -> Speech:
    """Vectors of texts."""
    return Speech(
        decode=lambda body, depth: requests.decode_embeddings(body, json_depth=depth),
        whole=whole_embeddings,
        new_id=answers.new_id,
    )


def image_embeddings(form: Form) -> Speech:
    """Vectors of pictures."""
    return Speech(
        decode=lambda body, depth: requests.decode_image_embeddings(body, json_depth=depth),
        whole=whole_embeddings,
        new_id=answers.new_id,
    )


def score() -> Speech:
    """A managed endpoint's `/score`. What shape the answer has depends on the request's: made anew for each call."""
    asked: list[requests.ScoreRequest] = []

    def decode(body: bytes, depth: int) -> Request:
        asked.append(requests.decode_score(body, json_depth=depth))
        return asked[0].request

    async def whole(head: AnswerHead, answer: Answer, reasoning: ReasoningPlace) -> bytes:
        request = answer.request
        if isinstance(request, CompletionsRequest):
            return answers.whole_score(asked[0], await fold_completions(answer.events, request.choices))
        return answers.whole_score(asked[0], await fold_chat(answer.events, request.choices))

    return Speech(decode=decode, whole=whole, new_id=answers.new_id)


SPEECHES: dict[Operation, Callable[[Form], Speech]] = {
    Operation.CHAT_COMPLETIONS: chat,
    Operation.COMPLETIONS: completions,
    Operation.EMBEDDINGS: embeddings,
    Operation.IMAGE_EMBEDDINGS: image_embeddings,
}


async def whole_chat(head: AnswerHead, answer: Answer, reasoning: ReasoningPlace) -> bytes:
    """One JSON object."""
    return answers.whole_chat(head, await fold_chat(answer.events, answer.request.choices), reasoning=reasoning)


async def whole_completions(head: AnswerHead, answer: Answer, reasoning: ReasoningPlace) -> bytes:
    """One JSON object."""
    return answers.whole_completions(head, await fold_completions(answer.events, answer.request.choices))


async def whole_embeddings(head: AnswerHead, answer: Answer, reasoning: ReasoningPlace) -> bytes:
    """One JSON object."""
    request = answer.request
    assert not isinstance(request, ChatRequest | CompletionsRequest)
    return answers.whole_embeddings(head, await fold_embeddings(answer.events), request.encoding_format)
