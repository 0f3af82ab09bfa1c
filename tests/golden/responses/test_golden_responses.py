"""The exact bytes of whole answers and of errors, one file per case beside this one.
`python tests/golden/responses/test_golden_responses.py` writes them anew: look at the difference before you commit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modelport.core import errors, limit_errors
from modelport.core.answers import (
    AnswerHead,
    ChatAnswer,
    ChatChoice,
    CompletionChoice,
    CompletionsAnswer,
    EmbeddingsAnswer,
)
from modelport.core.catalog import UNKNOWN_PROFILE, Deployment, Model, ModelProfile, Target
from modelport.core.content import FunctionCall, OpenToolCall, ToolCall
from modelport.core.events import ExtraFields, FinishReason
from modelport.core.operations import Operation
from modelport.core.requests import CompletionsRequest
from modelport.core.usage import TokenUsage
from modelport.dialects.azure_inference import answers as azure_inference
from modelport.dialects.azure_inference import errors as azure_inference_errors
from modelport.dialects.azure_inference.score import ScoreRequest
from modelport.dialects.error_body import ErrorBody
from modelport.dialects.openai_chat import answers as openai_chat
from modelport.dialects.openai_chat import errors as openai_chat_errors
from modelport.dialects.openai_shape.model_list import ListedModel, model, model_list

HERE = Path(__file__).parent
HEAD = AnswerHead("0a1234b5de6789f01a2b3c4d5e6f7a8b", 1718726686, "Meta-Llama-3.1-405B-Instruct")
USAGE = TokenUsage(input=19, output=72)
CALLS = (ToolCall("call_a", FunctionCall("get_weather", '{"city":"Paris"}')),)
CHATS = {
    "text": ChatAnswer((ChatChoice(0, "How are\nyou?", FinishReason.STOP),), USAGE),
    "tools": ChatAnswer((ChatChoice(0, None, FinishReason.TOOL_CALLS, tool_calls=CALLS),), USAGE),
    "reasoning": ChatAnswer((ChatChoice(0, "Yes.", FinishReason.STOP, reasoning="Let me see."),), USAGE),
    "two_choices": ChatAnswer(
        (
            ChatChoice(0, "a", FinishReason.STOP, logprobs={"content": []}),
            ChatChoice(1, "", FinishReason.CONTENT_FILTER),
        ),
        TokenUsage(input=9, cached_input=10, output=2, reasoning=5),
    ),
    "refusal": ChatAnswer((ChatChoice(0, None, FinishReason.STOP, refusal="I will not."),), USAGE),
    "extra": ChatAnswer(
        (
            ChatChoice(
                0,
                None,
                FinishReason.TOOL_CALLS,
                tool_calls=(OpenToolCall("c", FunctionCall("f"), extra={"x": 1, "function": {"y": 2}}),),
                extra=ExtraFields({}, {"content_filter_results": {}}, {"annotations": []}),
            ),
        ),
        USAGE,
        {"system_fingerprint": "fp", "prompt_filter_results": [{"prompt_index": 0}]},
    ),
}
TEXTS = CompletionsAnswer(
    (CompletionChoice(0, "a", FinishReason.STOP), CompletionChoice(1, "b", FinishReason.LENGTH)), USAGE
)
VECTORS = EmbeddingsAnswer((struct.pack("<4f", 0.5, -1, 0.25, 0), struct.pack("<4f", 1, 0, 0, 0)), TokenUsage(input=7))
LLAMA = Deployment(
    name="llama",
    model=Model("Meta", "Meta-Llama-3.1-405B-Instruct"),
    targets=(Target("p", "m"),),
    profile=UNKNOWN_PROFILE,
)
COHERE = Deployment(
    name="embed",
    model=Model("Cohere", "Cohere-embed-v3-english", publisher="Cohere Inc."),
    targets=(Target("p", "m"),),
    profile=ModelProfile(family="cohere", operations=frozenset({Operation.EMBEDDINGS, Operation.IMAGE_EMBEDDINGS})),
)


def offence(type: str, message: str, value: Any) -> errors.Offence:
    return errors.Offence(type, ("body", "response_format"), message, value)


ERRORS: dict[str, errors.ModelportError] = {
    "malformed": errors.MalformedBody("The request body must be a JSON object."),
    "extras": errors.ExtraParametersRefused(["a", "b"]),
    "extras_option": errors.ExtraParametersOptionUnknown("ignore"),
    "no_model": errors.ModelNotNamed(),
    "operation": errors.OperationNotSupported(Operation.EMBEDDINGS, "D"),
    "context": limit_errors.ContextLengthExceeded.of(8192, 8000, 500),
    "tokens": limit_errors.TokensLimitReached.of(1000, 800, 500, "deployment llama"),
    "filtered": errors.ContentFiltered({"violence": {"filtered": True, "severity": "medium"}}),
    "upstream_refused": errors.UpstreamRefused("no such size", code="invalid_size", target="size"),
    "no_key": errors.Unauthenticated(),
    "bad_token": errors.Unauthenticated(
        "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), "
        "or have expired."
    ),
    "no_role": errors.PermissionDenied(),
    "network": errors.Forbidden("Access denied due to Virtual Network/Firewall rules."),
    "no_deployment": errors.DeploymentNotFound("X"),
    "no_route": errors.RouteNotFound(),
    "method": errors.MethodNotAllowed(["POST"]),
    "slow_caller": errors.RequestTimedOut(),
    "large_body": errors.BodyTooLarge(1000),
    "large_headers": errors.HeadersTooLarge("The request headers are larger than the limit."),
    "unsupported": errors.InvalidParameters(
        [
            offence(
                "parameter_not_supported", "Model 'X' does not support 'response_format' = json_object", {"type": "x"}
            )
        ]
    ),
    "missing": errors.InvalidParameters([errors.Offence("missing", ("body", "messages"), "Field required", {})]),
    "requests_limit": limit_errors.RateLimited("requests", 10, 29),
    "tokens_limit": limit_errors.RateLimited("tokens", 1000, 29),
    "concurrency_limit": limit_errors.RateLimited("concurrency", 2, 1),
    "upstream_limit": limit_errors.RateLimited("upstream", None, 3),
    "internal": errors.InternalError(),
    "engine": errors.EngineFailed("The model broke."),
    "upstream": errors.UpstreamFailed("The upstream could not be reached."),
    "loading": errors.Unavailable("The model is loading.", code="NoCapacity", retry_after=7),
    "slow_upstream": errors.UpstreamTimedOut("The upstream was too slow."),
}
ENCODERS: dict[str, Callable[[errors.ModelportError], ErrorBody]] = {
    "azure_inference.models": azure_inference_errors.encode,
    "azure_inference.root": partial(azure_inference_errors.encode, form="root"),
    "azure_inference.managed": partial(azure_inference_errors.encode, form="managed"),
    "openai_chat": partial(openai_chat_errors.encode, api_version="2024-05-01-preview"),
}


def answers() -> dict[str, bytes]:
    """Every whole answer, by file name."""
    files: dict[str, bytes] = {}
    for case, answer in CHATS.items():
        files[f"chat.{case}.azure_inference.json"] = azure_inference.whole_chat(HEAD, answer)
        files[f"chat.{case}.openai_chat.json"] = openai_chat.whole_chat(HEAD, answer)
    files["chat.reasoning.azure_inference.field.json"] = azure_inference.whole_chat(
        HEAD, CHATS["reasoning"], reasoning="field"
    )
    files["completions.azure_inference.json"] = azure_inference.whole_completions(HEAD, TEXTS)
    files["completions.openai_chat.json"] = openai_chat.whole_completions(HEAD, TEXTS)
    files["embeddings.azure_inference.float.json"] = azure_inference.whole_embeddings(HEAD, VECTORS)
    files["embeddings.azure_inference.ubinary.json"] = azure_inference.whole_embeddings(HEAD, VECTORS, "ubinary")
    files["embeddings.openai_chat.base64.json"] = openai_chat.whole_embeddings(HEAD, VECTORS, "base64")
    text = CompletionsRequest(prompt=("p",))
    files["score.chat.json"] = azure_inference.whole_score(ScoreRequest(text), CHATS["text"])
    files["score.text.json"] = azure_inference.whole_score(ScoreRequest(text), TEXTS)
    files["score.texts.json"] = azure_inference.whole_score(ScoreRequest(text, is_listed=True), TEXTS)
    files["info.chat.json"] = azure_inference.info(LLAMA)
    files["info.embeddings.json"] = azure_inference.info(COHERE)
    listed = ListedModel(id="llama", created=1718726686, owned_by="Meta")
    files["models.json"] = model_list([listed, listed])
    files["model.json"] = model(listed)
    return files


def refusals() -> dict[str, bytes]:
    """Every error, by file name: status, headers and body, an empty line between two."""
    files: dict[str, bytes] = {}
    for name, encode in ENCODERS.items():
        parts = []
        for case, error in ERRORS.items():
            answer = encode(error)
            headers = "".join(f"{header}: {value}\n" for header, value in answer.headers)
            parts.append(f"# {case}\n{answer.status}\n{headers}".encode() + answer.body + b"\n")
        files[f"errors.{name}.txt"] = b"\n".join(parts)
    return files


@pytest.mark.parametrize("name", [*answers(), *refusals()])
def test_the_bytes_are_the_golden_ones(name: str) -> None:
    assert {**answers(), **refusals()}[name] == (HERE / name).read_bytes()


def test_no_golden_file_is_left_over() -> None:
    kept = {path.name for path in HERE.iterdir() if path.suffix in (".json", ".txt")}
    assert kept == {*answers(), *refusals()}


if __name__ == "__main__":
    for file_name, content in {**answers(), **refusals()}.items():
        (HERE / file_name).write_bytes(content)
