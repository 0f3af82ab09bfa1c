"""Chat and text completions from GGUF weights, with llama.cpp's own server (`xllamacpp`) inside the worker process."""

from __future__ import annotations

from collections.abc import AsyncIterator

from modelport.engine.backend import JsonObject, Operation, Options, WorkerError
from modelport.engine.backends.llama_cpp.chat import chat, count_prompt
from modelport.engine.backends.llama_cpp.completions import complete
from modelport.engine.backends.llama_cpp.model import Model, open_model
from modelport.engine.backends.llama_cpp.runtime import Settings
from modelport.engine.backends.llama_cpp.segments import Segment


async def open(options: Options) -> LlamaCpp:
    """Loads the weights. Raises ValueError, UnreadableWeightsError or RuntimeError with what is wrong."""
    return LlamaCpp(await open_model(Settings.read(options)))


class LlamaCpp:
    """The backend's face: each operation is in its own file."""

    operations: frozenset[Operation] = frozenset(("chat", "completions"))

    def __init__(self, model: Model) -> None:
        self._model = model

    def chat(self, request: JsonObject) -> AsyncIterator[JsonObject]:
        """See `Backend.chat`."""
        return chat(request, self._model)

    def completions(self, request: JsonObject) -> AsyncIterator[JsonObject]:
        """See `Backend.completions`."""
        return complete(request, self._model)

    async def embeddings(self, request: JsonObject) -> JsonObject:
        """Not a model for it."""
        raise NotImplementedError

    async def image_embeddings(self, request: JsonObject) -> JsonObject:
        """Not a model for it."""
        raise NotImplementedError

    async def tokenize(self, request: JsonObject) -> JsonObject:
        """See `Backend.tokenize`."""
        if "messages" in request:
            return {"count": await count_prompt(request, self._model)}
        texts = request.get("texts", [request.get("text")])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise WorkerError.invalid("text", "Give 'text', 'texts' or 'messages'.")
        counts = [len(await self._model.tokeniser.encode([Segment(text)], begins=False)) for text in texts]
        return {"count": sum(counts)}

    def facts(self) -> JsonObject:
        """See `Backend.facts`."""
        model = self._model
        return {
            "name": model.settings.name,
            "context_length": model.context,
            "slots": model.queue.slots,
            "queue_capacity": model.queue.capacity,
            "vocabulary_size": model.vocabulary.size,
            "tools": model.tool_ability,
            "fills_middle": model.vocabulary.middle is not None,
        }

    def load(self) -> JsonObject:
        """See `Backend.load`."""
        return {"busy_slots": self._model.queue.busy, "queue_length": self._model.queue.waiting}

    async def close(self) -> None:
        """See `Backend.close`."""
        await self._model.trial.close()
        self._model.engine.close()
