"""The nearest right spelling of a word that is not one of those allowed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was most likely meant; case and the kind of separator do not count as distance."""
    if len(word) > 200:  # nobody mistypes this much, and the comparison is quadratic
        return None
    by_form = {_form(choice): choice for choice in choices}
    found = get_close_matches(_form(word), by_form, n=1, cutoff=0.6)
    return by_form[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'capacity'?`, or nothing."""
    found = nearest(word, choices)
    return "" if found is None else f"; did you mean {found!r}?"


def _form(word: str) -> str:
    return word.lower().replace("-", "_").replace(" ", "_")
