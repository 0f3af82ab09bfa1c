"""The engine's provider types: the options of each, and the models that come with it.

The options are stated here and not read from the backends: importing those loads the libraries that run weights, and
they belong into worker processes alone. The backend checks again what only it can know.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelport.config.section import Seconds, Section, described
from modelport.engine.weights.catalogue import CATALOGUE, Weights

Threads = Annotated[
    Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] | None, described("auto or a whole number from 1")
]


class EngineOptions(Section):
    """What every embedded model can be told; absent: the section `engine`."""

    weights: Path | None = None
    """The file to load; absent: the embedded model of the deployment's `model.name`."""
    threads: Threads = None
    queue: Annotated[int, Field(ge=0, le=65_536)] | None = None
    """Calls that wait for their turn."""
    load: Literal["start", "first_use"] | None = None
    idle_unload_seconds: Seconds | None = None


class LlamaCppOptions(EngineOptions):
    """`llama_cpp`: chat and completions from a GGUF file."""

    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """What the engine calls the model; absent: the file's name."""
    slots: Annotated[int, Field(ge=1, le=64)] | None = None
    context: Annotated[int, Field(ge=256, le=2**24)] | None = None
    """Tokens, shared by the slots."""
    batch: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Prompt tokens that are read in one step; fewer make cancelling quicker."""
    default_max_tokens: Annotated[int, Field(ge=1, le=2**24)] | None = None
    """Tokens of an answer at most, where a request does not say; absent: as many as the context holds."""
    max_choices: Annotated[int, Field(ge=1, le=128)] | None = None
    """The greatest `n` and `best_of`."""
    max_beams: Annotated[int, Field(ge=1, le=128)] | None = None
    tools: Literal["auto", "forced", "none"] | None = None
    """Whether the model may choose tools itself (`auto`, the default), only use one that the caller forces, or none."""
    sampling: dict[str, float] | None = None
    """What a request that says nothing gets: `temperature`, `top_p`, `top_k`, `min_p`, `repeat_penalty`."""


class OnnxEmbeddingsOptions(EngineOptions):
    """`onnx_embeddings`: text embeddings from an ONNX sentence-transformer."""

    tokenizer: Annotated[str, Field(min_length=1)] | None = None
    """A `tokenizer.json`; absent: the one beside the weights."""
    max_tokens: Annotated[int, Field(ge=4, le=131_072)] | None = None
    """Tokens of one input."""
    pooling: Literal["mean", "cls", "last"] | None = None
    prefixes: dict[str, str] | None = None
    """Text in front of every input, by `input_type`: `query`, `document`."""
    too_long: Literal["cut", "refuse"] | None = None
    """What happens to an input of more tokens."""
    dimensions: Literal["whole", "cut"] | None = None
    """May a caller ask for shorter vectors? Only of a model that was trained for it."""
    inputs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Inputs in one request, at most."""


class OnnxImageEmbeddingsOptions(EngineOptions):
    """`onnx_image_embeddings`: image embeddings from an ONNX image encoder, and text from its twin."""

    model_config = ConfigDict(extra="allow")  # the pair's own shape has more options than are settled here

    text_weights: Path | None = None
    """The model that turns texts into the same space."""
    tokenizer: Annotated[str, Field(min_length=1)] | None = None


EMBEDDED: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        "llama_cpp": LlamaCppOptions,
        "onnx_embeddings": OnnxEmbeddingsOptions,
        "onnx_image_embeddings": OnnxImageEmbeddingsOptions,
    }
)


def embedded(model_name: str) -> Weights | None:
    """The embedded model of this name, by its own or its deployment's name."""
    wanted = model_name.lower()
    return next((w for w in CATALOGUE.values() if wanted in (w.name.lower(), w.model.name.lower())), None)


def embedded_models() -> tuple[str, ...]:
    """The names by which a deployment can mean a model of the engine."""
    return tuple(dict.fromkeys(name for item in CATALOGUE.values() for name in (item.name, item.model.name)))
