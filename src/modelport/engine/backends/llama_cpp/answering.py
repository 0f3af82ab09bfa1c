"""From prompts to pieces: how many generations a request makes, which of them it answers, and what they cost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from modelport.engine.backend import JsonObject, WorkerError, request_begins
from modelport.engine.backends.llama_cpp.candidates import Candidate, best_of
from modelport.engine.backends.llama_cpp.generate import Ending, Job
from modelport.engine.backends.llama_cpp.model import Model
from modelport.engine.backends.llama_cpp.sampling import Sampling, read_choices, read_sampling
from modelport.engine.backends.llama_cpp.slots import Admission
from modelport.engine.backends.llama_cpp.stops import Piece


@dataclass(frozen=True, slots=True)
class Plan:
    """How one request samples: `n` choices, out of `candidates` where there are more, by beams or by samples."""

    sampling: Sampling
    n: int
    candidates: int | None
    uses_beams: bool

    @property
    def generations(self) -> int:
        """Slots' worth of work for one prompt."""
        return 1 if self.uses_beams else self.candidates or self.n


@dataclass(slots=True)
class Tally:
    """The tokens of one request, exact at every moment of it."""

    prompt_tokens: int
    made: dict[int, int] = field(default_factory=dict)
    unshown: int = 0

    def usage(self) -> JsonObject:
        """The OpenAI usage object."""
        completion_tokens = sum(self.made.values()) + self.unshown
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        }


def wants_running_usage(request: JsonObject) -> bool:
    """Whether each chunk is to say what was used until then."""
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("continuous_usage_stats") is True


async def read_plan(request: JsonObject, model: Model, *, may_best_equal_n: bool) -> Plan:
    """The request's sampling. Refuses combinations that cannot be done."""
    sampling = read_sampling(request, model.settings.sampling, model.vocabulary.size)
    n, candidates = read_choices(request, model.settings.max_choices)
    if candidates is not None and may_best_equal_n and candidates == n:
        candidates = None
    if candidates is not None and candidates <= n:
        raise WorkerError.invalid("best_of", "'best_of' must be greater than 'n'.")
    if candidates is not None and request.get("stream"):
        raise WorkerError.unsupported("best_of", "'best_of' cannot be streamed.")
    uses_beams = request.get("use_beam_search")
    if uses_beams is not None and not isinstance(uses_beams, bool):
        raise WorkerError.invalid("use_beam_search", "'use_beam_search' must be true or false.")
    if uses_beams:
        _check_beams(sampling, candidates, model.settings.max_beams)
    for token in sampling.stop_token_ids:
        if "\ufffd" in await model.tokeniser.decode([token]):
            raise WorkerError.unsupported("stop_token_ids", f"Token {token} is a part of a character.")
    return Plan(sampling, n, candidates, bool(uses_beams))


def _check_beams(sampling: Sampling, candidates: int | None, width_limit: int) -> None:
    if candidates is None or candidates < 2:
        raise WorkerError.invalid("use_beam_search", "'use_beam_search' needs 'best_of' greater than 1.")
    if candidates > width_limit:
        raise WorkerError.invalid("best_of", f"'best_of' is at most {width_limit} with 'use_beam_search'.")
    if sampling.engine["temperature"] != 0:
        raise WorkerError.invalid("temperature", "'use_beam_search' needs 'temperature' 0.")
    plain = {"frequency_penalty": 0.0, "presence_penalty": 0.0, "repeat_penalty": 1.0}
    for name, value in plain.items():
        if sampling.engine[name] != value:
            raise WorkerError.unsupported(name, f"'{name}' does not go with 'use_beam_search'.")
    for name, is_asked in (
        ("logit_bias", sampling.bias),
        ("logprobs", sampling.top_logprobs is not None),
        ("min_tokens", sampling.min_tokens),
        ("skip_special_tokens", not sampling.skips_special),
        ("include_stop_str_in_output", sampling.keeps_stop),
    ):
        if is_asked:
            raise WorkerError.unsupported(name, f"'{name}' does not go with 'use_beam_search'.")


async def answer(
    model: Model,
    plan: Plan,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    tally: Tally,
    constraint: Mapping[str, Any] | None = None,
) -> AsyncGenerator[tuple[int, Piece | Ending]]:
    """The pieces of every choice with its index: those of the first prompt, then of the second …"""
    generations = plan.generations * len(prompts)
    if generations > model.queue.slots + model.queue.capacity:
        raise WorkerError.invalid("n", f"This asks for {generations} answers at a time; that is more than can wait.")
    jobs = [
        Job(prompt, limit, plan.sampling, choice, constraint or {})
        for prompt, limit in zip(prompts, limits, strict=True)
        for choice in range(plan.generations)
    ]
    with model.queue.admit(generations, request_begins.get()) as admission:
        if plan.candidates is None:
            async with aclosing(model.generator.run_all(jobs, admission)) as results:
                async for index, result in results:
                    tally.made[index] = result.tokens_so_far if isinstance(result, Piece) else result.tokens
                    yield index, result
            return
        for at in range(len(prompts)):
            own = jobs[at * plan.generations : (at + 1) * plan.generations]
            ranked = await _ranked(model, plan, own, admission)
            tally.unshown += sum(candidate.ending.tokens for candidate in ranked[plan.n :])
            for choice, candidate in enumerate(ranked[: plan.n], start=at * plan.n):
                tally.made[choice] = candidate.ending.tokens
                for piece in candidate.pieces:
                    yield choice, piece
                yield choice, candidate.ending


async def _ranked(model: Model, plan: Plan, jobs: Sequence[Job], admission: Admission) -> list[Candidate]:
    if plan.uses_beams:
        assert plan.candidates is not None
        return await model.beams.run(jobs[0], plan.candidates, admission)
    return await best_of(model.generator, jobs, admission)
