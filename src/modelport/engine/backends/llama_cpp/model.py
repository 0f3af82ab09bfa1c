"""A loaded model and everything that answering with it needs, opened once."""

from __future__ import annotations

from dataclasses import dataclass

from modelport.engine.backends.llama_cpp.candidates import BeamSearch
from modelport.engine.backends.llama_cpp.generate import Generator
from modelport.engine.backends.llama_cpp.prompts import ChatTemplate, Tokeniser
from modelport.engine.backends.llama_cpp.runtime import Engine, Settings, start_engine
from modelport.engine.backends.llama_cpp.slots import SlotQueue
from modelport.engine.backends.llama_cpp.trial import GrammarTrial
from modelport.engine.backends.llama_cpp.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Model:
    """The parts that requests use; all of them are shared by all requests."""

    settings: Settings
    engine: Engine
    vocabulary: Vocabulary
    tokeniser: Tokeniser
    template: ChatTemplate
    queue: SlotQueue
    generator: Generator
    beams: BeamSearch
    trial: GrammarTrial
    tool_ability: str

    @property
    def context(self) -> int:
        """Tokens that prompt and completion share in one slot."""
        return self.engine.context_per_slot


async def open_model(settings: Settings) -> Model:
    """Loads the weights and asks the engine what it must know. Raises UnreadableWeightsError or RuntimeError."""
    engine = await start_engine(settings)
    vocabulary = Vocabulary.read(engine.metadata, engine.vocabulary_size)
    tokeniser = Tokeniser(engine.native, vocabulary, engine.context_per_slot)
    queue = SlotQueue(settings.slots, settings.queue)
    return Model(
        settings=settings,
        engine=engine,
        vocabulary=vocabulary,
        tokeniser=tokeniser,
        template=await ChatTemplate.open(engine.native),
        queue=queue,
        generator=Generator(engine.native, queue, tokeniser, vocabulary),
        beams=BeamSearch(engine.native, queue, vocabulary),
        trial=GrammarTrial(settings.weights),
        tool_ability=settings.tools or "auto",
    )
