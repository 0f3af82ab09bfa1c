"""The words of a text as features: word n-grams, hashed into buckets. What MiniLM's vector blurs, such as who does what
to whom, stands in its words."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

BUCKETS: Final = 2**15
LONGEST: Final = 3
"""Words in an n-gram."""

_WORD: Final = re.compile(r"\w+(?:['’]\w+)?")

WordCounts = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Buckets, and for each the damped number of n-grams in it."""


def word_counts(text: str) -> WordCounts:
    """Of all n-grams of one to LONGEST words."""
    words = [word.encode("utf-8", "replace") for word in _WORD.findall(text.lower())]
    counts = Counter(
        crc32(b" ".join(words[at : at + length])) % BUCKETS
        for length in range(1, LONGEST + 1)
        for at in range(len(words) - length + 1)
    )
    amounts = np.fromiter(counts.values(), np.float32, len(counts))
    return np.fromiter(counts.keys(), np.int64, len(counts)), 1 + np.log(np.maximum(amounts, 1))


def weighted(counts: WordCounts, rarity: npt.NDArray[np.float32]) -> WordCounts:
    """Each amount times the rarity of its bucket, as a unit vector."""
    buckets, amounts = counts
    amounts = amounts * rarity[buckets]
    length = float(np.sqrt(np.square(amounts).sum()))
    return buckets, amounts / length if length else amounts
