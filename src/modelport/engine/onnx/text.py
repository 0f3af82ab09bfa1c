"""Texts to unit vectors: tokenizer, ONNX text model, pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from modelport.engine.backend import WorkerError
from modelport.engine.onnx.session import (
    ModelFileError,
    choice_option,
    embedding_output,
    number_option,
    open_session,
    path_option,
)

Vectors = npt.NDArray[np.float32]
"""One vector per row."""

MINILM_TOKENS = 256
"""What all-MiniLM-L6-v2 was trained to read."""

MINILM_TOKENIZER = "all-minilm-l6-v2"
"""The option `tokenizer` may be this name instead of a path."""

TEXTS_AT_A_TIME = 32
"""Texts that are tokenized in one step, so that no request waits for all of another's."""

_USUAL_CHARACTERS_PER_TOKEN = 8
_CHARACTERS_PER_TOKEN_AT_MOST = 32
"""Bounds the work of tokenizing, which reads all of a text before it is cut to the limit: the beginning with the usual
number of characters per token of the limit is read first, and more only if that was too little for the model."""

_LONGEST_WORD_TOKENS = 100
"""A word that the cut has divided may have so many tokens of another kind."""

_PADDING_TOKENS = ("[PAD]", "<pad>", "<|endoftext|>")


@dataclass(frozen=True, slots=True)
class TokenIds:
    """One input as the model reads it, its start and end marks included; `cut` if there was more of it."""

    ids: tuple[int, ...]
    cut: bool


class TextModel:
    """A loaded text model. `tokenized` and `embed` may run in different threads."""

    def __init__(self, options: Mapping[str, Any], weights: Path, threads: int, graph: bytes | None = None) -> None:
        """`graph`: another one over the tensors of `weights`."""
        self._session = open_session(weights, threads, graph)
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        self._output, self._rank = embedding_output(self._session)
        self._pooling = choice_option(options, "pooling", ("mean", "cls", "last"))
        self._tokenizer, own_limit = _open_tokenizer(options, weights)
        ids_input = self._inputs.get("input_ids") or next(iter(self._inputs.values()))
        self._ids_name = ids_input.name
        shape = ids_input.shape
        self.batch_limit = shape[0] if shape and isinstance(shape[0], int) else None
        self._fixed_length = shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None
        self.max_tokens = number_option(options, "max_tokens", self._fixed_length or own_limit, 4, 131_072)
        if self._fixed_length is not None and self.max_tokens > self._fixed_length:
            raise ModelFileError(f"The model reads {self._fixed_length} tokens; 'max_tokens' cannot be more.")
        self._tokenizer.enable_truncation(self.max_tokens)
        self._tokenizer.no_padding()
        marks = tuple(self._tokenizer.encode("").ids)
        self._before, self._after = marks[: (len(marks) + 1) // 2], marks[(len(marks) + 1) // 2 :]
        found = (self._tokenizer.token_to_id(token) for token in _PADDING_TOKENS)
        self._padding = next((token for token in found if token is not None), 0)
        self.dimensions = self._probe()

    @property
    def vocabulary_size(self) -> int:
        """How many token ids there are."""
        return int(self._tokenizer.get_vocab_size())

    def tokenized(self, texts: Sequence[str]) -> list[TokenIds]:
        """The tokens that the model will read of each text."""
        usual = self.max_tokens * _USUAL_CHARACTERS_PER_TOKEN
        found = self._beginnings(texts, usual, self.max_tokens + _LONGEST_WORD_TOKENS)
        unsure = [at for at, one in enumerate(found) if one is None]
        longest = self.max_tokens * _CHARACTERS_PER_TOKEN_AT_MOST
        again = self._beginnings([texts[at] for at in unsure], longest, 0)
        for at, one in zip(unsure, again, strict=True):
            found[at] = one
        return [one for one in found if one is not None]

    def _beginnings(self, texts: Sequence[str], characters: int, enough: int) -> list[TokenIds | None]:
        """The tokens of each text's first characters; None where it has more of both and these were not enough."""
        found: list[TokenIds | None] = []
        encodings = self._tokenizer.encode_batch([text[:characters] for text in texts])
        for text, encoding in zip(texts, encodings, strict=True):
            is_cut = len(text) > characters
            count = len(encoding.ids) + sum(len(part.ids) for part in encoding.overflowing)
            is_unsure = is_cut and count < enough
            found.append(None if is_unsure else TokenIds(tuple(encoding.ids), is_cut or bool(encoding.overflowing)))
        return found

    def wrapped(self, ids: Sequence[int]) -> TokenIds:
        """Token ids of this model's own vocabulary, given by the caller, between the start and end marks."""
        size = self.vocabulary_size
        if any(not 0 <= token < size for token in ids):
            raise WorkerError.invalid(
                "input",
                f"Token ids are read in this model's own vocabulary of {size}; send the text instead of its tokens.",
            )
        room = self.max_tokens - len(self._before) - len(self._after)
        return TokenIds((*self._before, *ids[:room], *self._after), len(ids) > room)

    def embed(self, inputs: Sequence[TokenIds]) -> Vectors:
        """One unit vector per input."""
        length = self._fixed_length or max(1, *(len(one.ids) for one in inputs))
        ids = np.full((len(inputs), length), self._padding, dtype=np.int64)
        mask = np.zeros((len(inputs), length), dtype=np.int64)
        for row, one in enumerate(inputs):
            ids[row, : len(one.ids)] = one.ids
            mask[row, : len(one.ids)] = 1
        feed = {name: self._fed(name, ids, mask) for name in self._inputs}
        states = np.asarray(self._session.run([self._output], feed)[0], dtype=np.float32)
        return unit(self._pooled(states, mask) if self._rank == 3 else states)

    def _fed(self, name: str, ids: npt.NDArray[Any], mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if name == self._ids_name:
            value = ids
        elif name == "attention_mask":
            value = mask
        elif name == "token_type_ids":
            value = np.zeros_like(ids)
        elif name == "position_ids":
            value = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int64), ids.shape)
        else:
            raise ModelFileError(f"The text model wants an input {name!r} that is not known here.")
        return value.astype(np.int32) if self._inputs[name].type == "tensor(int32)" else value

    def _pooled(self, states: Vectors, mask: npt.NDArray[np.int64]) -> Vectors:
        pooled: Vectors
        if self._pooling == "cls":
            pooled = states[:, 0]
        elif self._pooling == "last":
            pooled = states[np.arange(len(states)), mask.sum(axis=1) - 1]
        else:
            weights = mask[:, :, None].astype(np.float32)
            pooled = (states * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
        return pooled

    def _probe(self) -> int:
        """One run at full length: what cannot work fails now, with its reason, and not at a request."""
        full = TokenIds((self._padding,) * self.max_tokens, False)
        try:
            return int(self.embed([full]).shape[1])
        except ModelFileError:
            raise
        except Exception as error:  # the runtime's exceptions have no common base but Exception
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ModelFileError(f"The text model cannot read {self.max_tokens} tokens: {reason}") from error


def unit(vectors: Vectors) -> Vectors:
    """Each row at length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result


def _open_tokenizer(options: Mapping[str, Any], weights: Path) -> tuple[tokenizers.Tokenizer, int]:
    """The tokenizer, and how many tokens its model reads if nobody says otherwise.

    The embedded MiniLM's tokenizer is part of this package and goes by name; any other model brings its own.
    """
    if options.get("tokenizer") == MINILM_TOKENIZER:
        packed = resources.files("modelport.engine.onnx") / "data" / "all_minilm_l6_v2_tokenizer.json"
        return tokenizers.Tokenizer.from_str(packed.read_text(encoding="utf-8")), MINILM_TOKENS
    path = path_option(options, "tokenizer") or weights.parent / "tokenizer.json"
    if not path.is_file():
        raise ModelFileError(
            f"There is no tokenizer at {path}: the option 'tokenizer' takes the path of the model's tokenizer.json."
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise ModelFileError(f"{path} is not a tokenizer.json: {error}") from error
    return tokenizer, int((tokenizer.truncation or {}).get("max_length", MINILM_TOKENS))
