"""Several generations of which the best are answered: `best_of` samples, or beams."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.backends.llama_cpp.generate import Ending, Generator, Job
from modelport.engine.backends.llama_cpp.slots import Admission, SlotQueue
from modelport.engine.backends.llama_cpp.stops import Piece
from modelport.engine.backends.llama_cpp.vocabulary import Vocabulary
from modelport.engine.local_http import LocalHttp, LocalHttpError, LocalHttpStatusError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished generation and how likely the model finds it."""

    pieces: Sequence[Piece]
    ending: Ending
    score: float


async def best_of(generator: Generator, jobs: Sequence[Job], admission: Admission) -> list[Candidate]:
    """Every job's result, the one with the highest total log probability first."""
    shows_logprobs = jobs[0].sampling.top_logprobs is not None
    scored = [replace(j, sampling=replace(j.sampling, top_logprobs=j.sampling.top_logprobs or 0)) for j in jobs]
    pieces: list[list[Piece]] = [[] for _ in jobs]
    endings: dict[int, Ending] = {}
    async with aclosing(generator.run_all(scored, admission)) as results:
        async for index, result in results:
            if isinstance(result, Ending):
                endings[index] = result
            else:
                pieces[index].append(result)
    candidates = [
        Candidate(
            made if shows_logprobs else [replace(piece, logprobs=None) for piece in made],
            endings[index],
            sum(piece.logprobs["logprob"] for piece in made if piece.logprobs),
        )
        for index, made in enumerate(pieces)
    ]
    return sorted(candidates, key=lambda candidate: -candidate.score)


@dataclass(frozen=True, slots=True)
class _Beam:
    tokens: tuple[int, ...] = ()
    text: bytes = b""
    logprob: float = 0.0
    ending: Ending | None = None

    @property
    def score(self) -> float:
        """Log probability per token, so that a short beam does not win by being short."""
        return self.logprob / max(1, len(self.tokens))


class BeamSearch:
    """Beams by single steps of the engine, whose cached prompt makes each step cost a token or two."""

    _CERTAIN: Final = 10_000

    def __init__(self, native: LocalHttp, queue: SlotQueue, vocabulary: Vocabulary) -> None:
        self._native = native
        self._queue = queue
        self._vocabulary = vocabulary

    async def run(self, job: Job, width: int, admission: Admission) -> list[Candidate]:
        """The `width` best beams, the best first."""
        beams = [_Beam()]
        async with admission.slot():
            turn = await self._queue.take_prompt_turn()
            try:
                for _ in range(job.limit):
                    grown: list[_Beam] = [beam for beam in beams if beam.ending]
                    for beam in beams:
                        if beam.ending is None:
                            grown += self._grown(beam, await self._next_tokens(job, beam, width), job)
                            turn.end()
                    beams = heapq.nlargest(width, grown, key=lambda beam: beam.logprob)
                    if all(beam.ending for beam in beams):
                        break
            finally:
                turn.end()
        ranked = sorted(beams, key=lambda beam: -beam.score)
        return [self._candidate(beam, job) for beam in ranked]

    def _grown(self, beam: _Beam, options: Sequence[JsonObject], job: Job) -> list[_Beam]:
        grown: list[_Beam] = []
        for option in options:
            token, logprob = int(option["id"]), float(option["logprob"])
            tokens = (*beam.tokens, token)
            if token in self._vocabulary.ends:
                if not job.sampling.ignores_end:
                    ending = Ending("stop", len(tokens))
                    grown.append(replace(beam, tokens=tokens, logprob=beam.logprob + logprob, ending=ending))
                continue
            text = beam.text + bytes(option["bytes"])
            decoded = text.decode("utf-8", "replace")
            is_stopped = token in job.sampling.stop_token_ids or any(stop in decoded for stop in job.sampling.stops)
            cut = Ending("stop", len(tokens), is_cut=True) if is_stopped else None
            grown.append(_Beam(tokens, text, beam.logprob + logprob, cut))
        return grown

    async def _next_tokens(self, job: Job, beam: _Beam, width: int) -> list[JsonObject]:
        """The likeliest next tokens. A token that ends the text is forced, because half a character shows nothing."""
        ends = [[token, self._CERTAIN] for token in self._vocabulary.ends]
        body: dict[str, Any] = {
            "prompt": [*job.prompt, *beam.tokens], "n_predict": 1, "temperature": 0, "n_probs": 2 * width,
            "logit_bias": ends, "stream": True, "cache_prompt": True,
        }  # fmt: skip
        try:
            async with aclosing(self._native.events("/completion", body)) as events:
                async for event in events:
                    if "error" in event:
                        break
                    if event.get("completion_probabilities"):
                        options: list[JsonObject] = event["completion_probabilities"][0]["top_logprobs"]
                        return [option for option in options if math.isfinite(float(option["logprob"]))]
        except (LocalHttpError, LocalHttpStatusError) as error:
            raise WorkerError.failed() from error
        raise WorkerError.failed()

    def _candidate(self, beam: _Beam, job: Job) -> Candidate:
        text = beam.text.decode("utf-8", "ignore")
        cuts = [at for stop in job.sampling.stops if (at := text.find(stop)) >= 0]
        text = text[: min(cuts)] if cuts else text
        ending = beam.ending or Ending("length", len(beam.tokens))
        return Candidate([Piece(text, len(beam.tokens))] if text else [], ending, beam.score)
