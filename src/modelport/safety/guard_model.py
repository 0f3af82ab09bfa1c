"""The filter `guard_model`: a chat model behind one of the deployments judges, asked in the form that it was made for.

* `llama_guard`: Llama Guard 3 and 4 judge a conversation by their own template; `unsafe` and hazards such as `S1,S10`.
* `shield_gemma`: one question for each harm, answered Yes or No.
* `json`: any chat model, asked for an object of four severities. Slow, and as good as the model.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from modelport.core.ports.safety import Ask, FilterOutageError, FilterParts, FilterUnavailableError, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import HARMS, Category, Severity, Source, Verdict
from modelport.safety.sentences import split_pieces

USES: Final = ("guard_model", "ask")
CHARACTERS_AT_ONCE: Final = 4000
ANSWER_TOKENS: Final = 60
HAZARDS: Final[Mapping[str, Category]] = {
    "S1": Category.VIOLENCE,
    "S3": Category.SEXUAL,
    "S4": Category.SEXUAL,
    "S9": Category.VIOLENCE,
    "S10": Category.HATE,
    "S11": Category.SELF_HARM,
    "S12": Category.SEXUAL,
}
"""MLCommons' hazards, as far as they are one of the four harms."""
SHIELD_RULES: Final[Mapping[Category, str]] = {
    Category.HATE: '"No Hate Speech": content that targets identity and/or protected attributes',
    Category.SEXUAL: '"No Sexually Explicit Information": content that is sexually explicit',
    Category.VIOLENCE: '"No Violence": content that threatens, glorifies, or gives instructions for violence',
    Category.SELF_HARM: '"No Self-harm": content that encourages, or gives instructions for, suicide or self-injury',
}
JSON_PROMPT: Final = """\
You are a content moderator. Rate the text between the marks for four harms: hate, sexual, violence, self_harm.
For each give one of: safe, low, medium, high. News, medicine, history, recipes and sports are safe.
Answer only with JSON like {"hate":"safe","sexual":"safe","violence":"safe","self_harm":"safe"}.
"""
_MARK: Final = re.compile(r"<(?=\S)|\[(?=/?[A-Z_]{3,}\])")
"""Where a template's own token may begin (`<|eot_id|>`, `<end_of_turn>`, `[/INST]`), or a tag of the prompt's."""
_HAZARD: Final = re.compile(r"\bS\d+\b")
_OBJECT: Final = re.compile(r"\{[^{}]*\}")


class GuardModel(Struct, frozen=True):
    """The adapter `guard_model`: which deployment is asked, and how."""

    deployment: str
    form: str
    timeout_seconds: float


def open_filter(parts: FilterParts) -> GuardModelFilter:
    """Raises FilterUnavailableError."""
    model: GuardModel | None = parts.adapters.get("guard_model")
    ask: Ask | None = parts.adapters.get("ask")
    if model is None or ask is None:
        raise FilterUnavailableError("needs `content_safety.guard` with the name of a deployment")
    return GuardModelFilter(model, ask)


class GuardModelFilter:
    """core.ports.safety.SafetyFilter"""

    name = "guard_model"
    categories = frozenset(HARMS)
    annotate_only: frozenset[Category] = frozenset()

    def __init__(self, model: GuardModel, ask: Ask) -> None:
        self._model = model
        self._ask = ask
        self.version = f"{model.deployment}/{model.form}"

    def judge(self, question: Question) -> Verdicts | NeedsWaiting[Verdicts]:
        """core.ports.safety.SafetyFilter"""
        wanted = [category for category in HARMS if category in question.categories]
        if not wanted or not question.text.strip():
            return ()

        async def resume() -> Verdicts:
            found: dict[Category, Verdict] = {}
            for start, end in await asyncio.to_thread(split_pieces, question.text, CHARACTERS_AT_ONCE):
                for category, severity in (await self._severities(question, start, end, wanted)).items():
                    known = found.get(category)
                    if severity > (known.severity if known is not None else Severity.SAFE):
                        score = severity / Severity.HIGH
                        found[category] = Verdict(category, severity, score, start, end, self.name, self.version)
            return tuple(found.values())

        return NeedsWaiting(resume)

    async def _severities(
        self, question: Question, start: int, end: int, wanted: Sequence[Category]
    ) -> Mapping[Category, Severity]:
        text = without_marks(question.text[start:end].encode("utf-8", "replace").decode())
        match self._model.form:
            case "llama_guard":
                return llama_guard_severities(await self._say(llama_guard_messages(text, question.source)), wanted)
            case "shield_gemma":
                answers = await asyncio.gather(*(self._say(shield_gemma_messages(text, harm)) for harm in wanted))
                return {harm: yes_or_no(said) for harm, said in zip(wanted, answers, strict=True)}
            case _:
                return json_severities(await self._say(json_messages(text)), wanted)

    async def _say(self, messages: Sequence[Mapping[str, str]]) -> str:
        body = {"messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0}
        answer = await self._ask(self._model.deployment, body, self._model.timeout_seconds)
        try:
            return str(answer["choices"][0]["message"]["content"] or "")
        except (LookupError, TypeError) as error:
            raise FilterOutageError("the guard model has answered with no text") from error


def without_marks(text: str) -> str:
    """A text that begins and ends no turn: in one that does, the model would judge what stands behind."""
    return _MARK.sub(r"\g<0> ", text)


def llama_guard_messages(text: str, source: Source) -> list[dict[str, str]]:
    """The conversation whose last turn is judged; the model's template adds the hazards."""
    if source is Source.PROMPT:
        return [{"role": "user", "content": text}]
    return [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": text}]


def llama_guard_severities(said: str, wanted: Sequence[Category]) -> dict[Category, Severity]:
    """It knows no severities: what is unsafe is high. Raises FilterOutageError."""
    words = said.split()
    if not words or words[0].lower() not in ("safe", "unsafe"):
        raise FilterOutageError("the guard model has not answered as Llama Guard does")
    if words[0].lower() == "safe":
        return {}
    found = {HAZARDS[hazard] for hazard in _HAZARD.findall(said) if hazard in HAZARDS}
    return {category: Severity.HIGH for category in wanted if category in found}


def shield_gemma_messages(text: str, harm: Category) -> list[dict[str, str]]:
    """Its documented prompt, with one guideline."""
    content = (
        "You are a policy expert trying to help determine whether a user prompt is in violation of the defined safety "
        f"policies.\n\n<start_of_turn>\nHuman Question: {text}\n<end_of_turn>\n\nOur safety principle is defined in "
        f"the below:\n\n* {SHIELD_RULES[harm]}.\n\nDoes the human question violate the above principle? Your answer "
        "must start with 'Yes' or 'No'. And then walk through step by step to be sure we answer correctly."
    )
    return [{"role": "user", "content": content}]


def yes_or_no(said: str) -> Severity:
    """Yes is high. Raises FilterOutageError."""
    word = said.strip().lower()
    if not word.startswith(("yes", "no")):
        raise FilterOutageError("the guard model has answered neither Yes nor No")
    return Severity.HIGH if word.startswith("yes") else Severity.SAFE


def json_messages(text: str) -> list[dict[str, str]]:
    """For any chat model."""
    return [
        {"role": "system", "content": JSON_PROMPT},
        {"role": "user", "content": f"<text>\n{text}\n</text>"},
    ]


def json_severities(said: str, wanted: Sequence[Category]) -> dict[Category, Severity]:
    """The highest in any object of the answer, which may quote one of the text's. Raises FilterOutageError."""
    found: list[Mapping[Category, Severity]] = []
    for object_ in _OBJECT.findall(said):
        try:
            given: dict[str, Any] = msgspec.json.decode(object_, type=dict[str, Any])
            found.append({category: Severity[str(given[category.value]).upper()] for category in wanted})
        except (msgspec.MsgspecError, KeyError):
            continue
    if not found:
        raise FilterOutageError("the guard model has not answered with the four severities")
    return {category: max(severities[category] for severities in found) for category in wanted}
