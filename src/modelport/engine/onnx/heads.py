"""The safety classifier's heads: from a text's words and MiniLM's vector of it to one score for each category.
`scripts/train_safety.py` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt

from modelport.engine.onnx.text import Vectors
from modelport.engine.onnx.words import weighted, word_counts

_FILE: Final = "safety_heads.npz"


class SafetyHeads:
    """Each head is a support vector machine with a radial kernel over MiniLM's vectors, plus a linear model of words; a
    logistic curve makes a score of the sum. Opened at the first use: most workers are never asked."""

    @cached_property
    def _arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        with resources.files("modelport.engine.onnx").joinpath("data", _FILE).open("rb") as file:
            return dict(np.load(file))

    @property
    def version(self) -> str:
        """Of the training; the thresholds have the same."""
        return str(self._arrays["version"])

    @property
    def names(self) -> list[str]:
        """The heads, in the order of the scores."""
        return [str(name) for name in self._arrays["names"]]

    def scores(self, texts: Sequence[str], vectors: Vectors) -> Vectors:
        """For each text and its unit vector, a score from 0 to 1 by each head."""
        margins = self._by_meaning(vectors) + self._by_words(texts)
        slopes, offsets = self._numbers("curves").T
        found: Vectors = 1 / (1 + np.exp(-(slopes * margins + offsets)))
        return found

    def _by_meaning(self, vectors: Vectors) -> Vectors:
        support, norms = self._support
        distances = np.square(vectors).sum(axis=1, keepdims=True) + norms - 2 * (vectors @ support.T)
        found: Vectors = np.exp(-self._numbers("gamma") * distances) @ self._numbers("coefficients")
        return found + self._numbers("intercepts")

    def _by_words(self, texts: Sequence[str]) -> Vectors:
        table, rarity = self._words
        found = np.zeros((len(texts), table.shape[1]), np.float32)
        for row, text in enumerate(texts):
            buckets, amounts = weighted(word_counts(text), rarity)
            found[row] = amounts @ table[buckets]
        return found + self._numbers("word_intercepts")

    @cached_property
    def _support(self) -> tuple[Vectors, Vectors]:
        """The support vectors, and the square of each one's length."""
        vectors = self._numbers("vectors") * self._numbers("scales")[:, None]
        return vectors, np.square(vectors).sum(axis=1)

    @cached_property
    def _words(self) -> tuple[Vectors, Vectors]:
        """A row of weights for each bucket, and the bucket's rarity."""
        return self._numbers("words"), self._numbers("rarity")

    def _numbers(self, name: str) -> Vectors:
        return self._arrays[name].astype(np.float32)
