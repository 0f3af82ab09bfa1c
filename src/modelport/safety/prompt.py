"""Judges a request before a target is asked: core.ports.filters.PromptFilter for one policy."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from modelport.core.errors import ContentFiltered, InvalidParameters, ModelportError, Unavailable
from modelport.core.events import Annotation
from modelport.core.identity import Principal
from modelport.core.offences import Offence
from modelport.core.operations import Operation
from modelport.core.ports.filters import Annotations
from modelport.core.ports.stages import NeedsWaiting, Refusal, passed
from modelport.core.requests import Request
from modelport.core.safety import ContentFilterPolicy
from modelport.safety.judging import Judge, Waiting, answers
from modelport.safety.passages import Prompt, prompts_of
from modelport.safety.policy import AUDIO_NOT_SCANNED, Findings
from modelport.safety.slices import Steps, at_once, in_thread

AT_ONCE_BYTES: Final = 32_768
"""The texts of a larger request are gathered in a thread."""
OUTAGE_RETRY_SECONDS: Final = 5
ANSWERED_IN_WORDS: Final = frozenset((Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS))
"""For other operations, what cannot be read is an outage."""
NO_TEXT: Final = "The deployment's content filter reads text: send the prompt as text, not as token ids."


class PromptStage:
    """One policy."""

    def __init__(self, policy: ContentFilterPolicy, judge: Judge) -> None:
        self._policy = policy
        self._judge = judge

    def __call__(
        self, policy: str, principal: Principal, request: Request
    ) -> Refusal | NeedsWaiting[Annotations] | Annotations:
        if request.body_bytes > AT_ONCE_BYTES:
            return NeedsWaiting(partial(self._judge_large, request))
        return self._judge_prompts(request, prompts_of(request))

    async def _judge_large(self, request: Request) -> Refusal | Annotations:
        outcome = self._judge_prompts(request, await in_thread(partial(prompts_of, request)))
        return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome

    def _judge_prompts(
        self, request: Request, prompts: list[Prompt]
    ) -> Refusal | NeedsWaiting[Annotations] | Annotations:
        if any(prompt.has_token_ids for prompt in prompts) and request.operation is Operation.COMPLETIONS:
            return Refusal(unreadable(request, NO_TEXT))
        found = [self._findings(prompt) for prompt in prompts]
        waiting = at_once(self._begin(prompts, found))
        if isinstance(waiting, NeedsWaiting) or any(waiting.values()):
            return NeedsWaiting(partial(self._judge_elsewhere, request, found, waiting))
        return self._decision(request, found)

    def _begin(self, prompts: list[Prompt], found: list[Findings]) -> Steps[dict[Findings, Waiting]]:
        """Asks the filters about each text and picture: what has to be awaited."""
        waiting: dict[Findings, Waiting] = {}
        for prompt, findings in zip(prompts, found, strict=True):
            waiting[findings] = self._judge.begin_images(findings, prompt.images)
            for passage in prompt.passages:
                waiting[findings] += self._judge.begin(findings, passage)
                yield None
        return waiting

    def _findings(self, prompt: Prompt) -> Findings:
        findings = self._judge.findings()
        if prompt.has_token_ids:
            findings.fail(self._judge.judged)
        if prompt.has_audio:
            findings.not_scanned.add(AUDIO_NOT_SCANNED)
        return findings

    async def _judge_elsewhere(
        self,
        request: Request,
        found: list[Findings],
        waiting: dict[Findings, Waiting] | NeedsWaiting[dict[Findings, Waiting]],
    ) -> Refusal | Annotations:
        if isinstance(waiting, NeedsWaiting):
            waiting = passed(await waiting.resume())
        await answers(waiting)
        return self._decision(request, found)

    def _decision(self, request: Request, found: list[Findings]) -> Refusal | Annotations:
        for findings in found:
            if findings.is_blocked:
                return Refusal(ContentFiltered(findings.results()))
        for findings in found:
            if findings.unreadable and request.operation in ANSWERED_IN_WORDS:
                return Refusal(unreadable(request, findings.unreadable))
        if self._policy.refuses_on_outage and any(findings.has_failed for findings in found):
            return Refusal(outage())
        return tuple(
            Annotation(
                findings.results(), prompt=index, is_notable=self._policy.annotate or findings.has_failed, is_last=False
            )
            for index, findings in enumerate(found)
        )


def outage() -> ModelportError:
    """For a policy that lets nothing pass unjudged."""
    message = "The content filter of this deployment could not judge the call. Please retry."
    return Unavailable(message, code="content_filter_error", retry_after=OUTAGE_RETRY_SECONDS)


def unreadable(request: Request, why: str) -> ModelportError:
    """A prompt that no filter can read: any words could hide there."""
    return InvalidParameters([Offence("value_error", ("body", msgspec.structs.fields(request)[0].name), why, None)])
