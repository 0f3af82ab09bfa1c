"""`/score`, as managed online endpoints have it: its own names for the parameters, and an answer that is hardly one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from modelport.core.answers import ChatAnswer, CompletionsAnswer
from modelport.core.errors import InvalidParameters, Offence
from modelport.core.requests import ChatRequest, CompletionsRequest
from modelport.dialects.fields import FieldWalk, Place
from modelport.dialects.openai_shape.completions import COMPLETIONS
from modelport.dialects.openai_shape.request import INFERENCE


class ScoreRequest(Struct, frozen=True):
    """A call of `/score`. `is_listed`: the answer's `output` is a list, as the input was."""

    request: ChatRequest | CompletionsRequest
    is_listed: bool = False


def read_score(fields: dict[str, Any], body_bytes: int) -> ScoreRequest:
    """A chat if the input is messages, else text. Raises InvalidParameters."""
    walk = FieldWalk()
    data = fields.get("input_data")
    if data is None:
        walk.missing(("body", "input_data"), fields)
        walk.finish()
    place: Place = ("body", "input_data")
    parameters = fields.get("params")
    place_of_parameters: Place = ("body", "params")
    if isinstance(data, dict):
        if data.get("parameters") is not None or parameters is None:
            parameters, place_of_parameters = data.get("parameters"), (*place, "parameters")
        if data.get("input_string") is None:
            walk.missing((*place, "input_string"), data)
            walk.finish()
        data, place = data["input_string"], (*place, "input_string")
    if parameters is not None and walk.mapping(parameters, place_of_parameters) is None:
        walk.finish()
    options = _options(parameters or {})
    if isinstance(data, list) and data and isinstance(data[0], dict):
        chat = {**options, "messages": data}
        return ScoreRequest(
            _placed(
                lambda: INFERENCE.read_fields(chat, body_bytes),
                "messages",
                place,
                place_of_parameters,
            )
        )
    text = {**options, "prompt": data}
    return ScoreRequest(
        _placed(lambda: COMPLETIONS.read_fields(text, body_bytes), "prompt", place, place_of_parameters),
        is_listed=isinstance(data, list),
    )


def whole_score(score: ScoreRequest, answer: ChatAnswer | CompletionsAnswer) -> bytes:
    """`{"output": …}`, and what newer images of these endpoints add to it."""
    usage = answer.usage
    counts = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
    }
    if isinstance(answer, ChatAnswer):
        choice = answer.choices[0]
        said = (choice.content or "") + (choice.refusal or "")
        body: dict[str, Any] = {"output": said, "message": {"role": "assistant", "content": said}}
        return msgspec.json.encode({**body, "finish_reason": choice.finish_reason, "usage": counts})
    texts = [choice.text for choice in answer.choices]
    output: str | list[str] = texts if score.is_listed else texts[0]
    return msgspec.json.encode({"output": output, "finish_reason": answer.choices[0].finish_reason, "usage": counts})


def _options(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters by the names of the other routes. An answer of this route cannot be streamed."""
    options = {name: value for name, value in parameters.items() if value is not None}
    if "max_new_tokens" in options:
        options["max_tokens"] = options.pop("max_new_tokens")
    if options.pop("do_sample", None) is False:
        options["temperature"] = 0.0
    if options.pop("return_full_text", None) is True:
        options["echo"] = True
    for name in ("stream", "stream_options", "messages", "prompt"):
        options.pop(name, None)
    return options


def _placed(decode: Callable[[], Any], input_name: str, place_of_input: Place, place_of_parameters: Place) -> Any:
    """What `decode` gives; its offences are put where this body has those fields."""
    try:
        return decode()
    except InvalidParameters as error:
        offences = []
        for offence in error.offences:
            name, *rest = offence.loc[1:]
            sent_name = "max_new_tokens" if name == "max_tokens" else name
            place = place_of_input if name == input_name else (*place_of_parameters, sent_name)
            offences.append(Offence(offence.type, (*place, *rest), offence.msg, offence.input))
        raise InvalidParameters(offences) from None
