"""One generation: token ids in, pieces of text out, stopped within a token when nobody wants more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.backends.llama_cpp.prompts import Tokeniser
from modelport.engine.backends.llama_cpp.sampling import Sampling, engine_seed
from modelport.engine.backends.llama_cpp.segments import Segment
from modelport.engine.backends.llama_cpp.slots import Admission, SlotQueue
from modelport.engine.backends.llama_cpp.stops import Piece, StopTexts
from modelport.engine.backends.llama_cpp.vocabulary import Vocabulary
from modelport.engine.local_http import LocalHttp, LocalHttpError, LocalHttpStatusError


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a generation ended, and how many tokens it made in all. `is_cut`: by a stop text, not by the model."""

    reason: Literal["stop", "length"]
    tokens: int
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One generation to make: `limit` tokens at most after `prompt`, within `constraint` (a grammar or a schema)."""

    prompt: Sequence[int]
    limit: int
    sampling: Sampling
    choice: int = 0
    constraint: Mapping[str, Any] = field(default_factory=dict)


class Generator:
    """Runs jobs on the engine, each in its turn. Iterators of it must be closed (`aclosing`): that stops the work."""

    def __init__(self, native: LocalHttp, queue: SlotQueue, tokeniser: Tokeniser, vocabulary: Vocabulary) -> None:
        self._native = native
        self._queue = queue
        self._tokeniser = tokeniser
        self._vocabulary = vocabulary

    async def run_all(self, jobs: Sequence[Job], admission: Admission) -> AsyncGenerator[tuple[int, Piece | Ending]]:
        """Every job's pieces with the job's index, as they come. The first failure ends them all."""
        results: asyncio.Queue[tuple[int, Piece | Ending | BaseException]] = asyncio.Queue()

        async def run_one(index: int, job: Job) -> None:
            try:
                async with aclosing(self.run(job, admission)) as pieces:
                    async for piece in pieces:
                        results.put_nowait((index, piece))
            except Exception as error:  # noqa: BLE001  handed to the consumer, which raises it
                results.put_nowait((index, error))

        tasks = [asyncio.create_task(run_one(index, job)) for index, job in enumerate(jobs)]
        running = len(tasks)
        try:
            while running:
                index, result = await results.get()
                if isinstance(result, BaseException):
                    raise result
                running -= isinstance(result, Ending)
                yield index, result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self, job: Job, admission: Admission) -> AsyncGenerator[Piece | Ending]:
        """The pieces of one generation, cut at its stop texts, and then its ending."""
        if job.limit == 0:
            yield Ending("length", 0)
            return
        stops = StopTexts(job.sampling.stops, is_kept=job.sampling.keeps_stop)
        made = 0
        async with admission.slot(), aclosing(self._pieces(job)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Ending):
                    for held in stops.flush():
                        yield held
                    yield piece
                    return
                made = piece.tokens_so_far
                for safe in stops.feed(piece):
                    yield safe
                if stops.stopped:
                    break
                if piece.token_id in job.sampling.stop_token_ids:
                    for held in stops.flush():
                        yield held
                    break
        yield Ending("stop", made, is_cut=True)

    async def _pieces(self, job: Job) -> AsyncGenerator[Piece | Ending]:
        """What the engine makes. With `min_tokens` in two parts: the first of them cannot end early."""
        least = 0 if job.sampling.ignores_end else min(job.sampling.min_tokens, job.limit)
        if not least:
            async with aclosing(self._stream(job)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        first = replace(job, limit=least, sampling=replace(job.sampling, ignores_end=True))
        text, tokens, made = "", list[int](), 0
        async with aclosing(self._stream(first)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Ending):
                    made = piece.tokens
                    break
                text, tokens = text + piece.text, [*tokens, piece.token_id]
                yield piece
        if made >= job.limit:
            yield Ending("length", made)
            return
        # A character made of several tokens shows only its last one; then the text stands in for the tokens.
        whole = tokens if len(tokens) == made else await self._tokeniser.encode([Segment(text)], begins=False)
        rest = replace(job, prompt=[*job.prompt, *whole], limit=job.limit - made)
        async with aclosing(self._stream(rest)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Ending):
                    yield Ending(piece.reason, made + piece.tokens)
                else:
                    yield replace(piece, tokens_so_far=made + piece.tokens_so_far)

    async def _stream(self, job: Job) -> AsyncGenerator[Piece | Ending]:
        turn = await self._queue.take_prompt_turn()
        held: Piece | None = None
        try:
            async with aclosing(self._native.events("/completion", self._body(job))) as events:
                async for event in events:
                    if not isinstance(event, dict) or "error" in event:
                        raise WorkerError.failed()
                    progress = event.get("prompt_progress")
                    if progress is None or progress["processed"] >= progress["total"]:
                        turn.end()
                    if progress is not None:
                        continue
                    if event.get("stop"):
                        if held is not None and event["stop_type"] != "eos":
                            yield held
                        yield Ending("length" if event["stop_type"] == "limit" else "stop", event["tokens_predicted"])
                        return
                    if held is not None:
                        yield held
                    piece = _piece(event, job.sampling.top_logprobs)
                    # A control token is shown only if asked for, and never the one that ends the text.
                    held = piece if piece.token_id in self._vocabulary.control else None
                    if held is None:
                        yield piece
            raise WorkerError.failed()
        except LocalHttpStatusError as error:
            raise _refusal(error) from error
        except LocalHttpError as error:
            raise WorkerError.failed() from error
        finally:
            turn.end()

    def _body(self, job: Job) -> JsonObject:
        sampling = job.sampling
        body: JsonObject = {
            **sampling.engine,
            **job.constraint,
            "prompt": list(job.prompt),
            "n_predict": job.limit,
            "stream": True,
            "return_tokens": True,
            "return_progress": True,
            "cache_prompt": True,
            "ignore_eos": sampling.ignores_end,
            "n_probs": 0 if sampling.top_logprobs is None else max(1, sampling.top_logprobs),
        }
        seed = engine_seed(sampling.seed, job.choice)
        if seed is not None:
            body["seed"] = seed
        if sampling.bias:
            body["logit_bias"] = [[token, bias if bias > -100 else False] for token, bias in sampling.bias]
        if not sampling.skips_special:
            body["preserved_tokens"] = list(self._vocabulary.control.values())
        return body


def _piece(event: JsonObject, top: int | None) -> Piece:
    tokens = event.get("tokens") or [-1]
    found = event.get("completion_probabilities")
    logprobs = None
    if top is not None and found:
        logprobs = {**_without_id(found[-1]), "top_logprobs": [_without_id(t) for t in found[-1]["top_logprobs"][:top]]}
    return Piece(str(event.get("content") or ""), int(event["tokens_predicted"]), int(tokens[-1]), logprobs)


def _without_id(found: JsonObject) -> JsonObject:
    return {"token": found["token"], "logprob": found["logprob"], "bytes": found["bytes"]}


def _refusal(error: LocalHttpStatusError) -> WorkerError:
    """The engine's own refusals are ours to have foreseen, except that a grammar may turn out not to be one."""
    message = str((error.body or {}).get("error", {}).get("message", "")) if isinstance(error.body, dict) else ""
    if error.status == 400 and ("grammar" in message or "schema" in message.lower()):
        return WorkerError(422, "invalid_schema", "The engine cannot follow this schema.", param="response_format")
    return WorkerError.failed()
