"""Removes known secrets, and the addresses of upstreams, from text that an upstream or a library wrote."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final
from urllib.parse import quote, quote_plus

from modelport.core.errors import ContentFiltered, InvalidParameters, ModelportError, Offence

MASK: Final = "[redacted]"
WINDOW: Final = 12
"""A quote of this many characters of a secret, or of all of a shorter one, is taken out."""
SHORTEST_CUT: Final = 6
"""This much of a secret's beginning is taken off the end of a text, which may have been cut there."""
SHORTEST_HEAD: Final = 3
"""A word with dots in it is a masked secret when it begins or ends with this much of one."""
LONGEST_VALUE: Final = 1_000

CREDENTIAL: Final = re.compile(
    r"""(?x)
      (?i:\b(?:bearer|basic)\s+[\w.~+/=*-]{8,})                     # an Authorization value
    | (?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?                        # a JSON web token
    | (?<![\w-])(?:sk|pk|hf|ghp|gho|ghs|xox[abp]|mp)[-_][\w-]{12,}          # keys with a maker's mark
    | (?<![\w-])github_pat_\w{12,}
    """
)
"""Text that has the shape of a credential, of any owner."""
_MASKED: Final = re.compile(r"(?<![\w+/=-])[\w+/=-]*+(?:\*{2,}|[•●]{2,}|\.{3,}|…)[\w+/=*•●…-]*")
_IP_ADDRESS: Final = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\w.]*\d)|\[[0-9a-fA-F:.%\w]*:[0-9a-fA-F:.%\w]*\](?::\d+)?"
    r"|\blocalhost:\d+"
)
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


class Redactor:
    """Knows the configured secrets in every usual encoding. Compares without case; costs time by the text's length,
    not by the number of secrets."""

    __slots__ = ("_addresses", "_heads", "_short", "_tails", "_windows")

    def __init__(self, secrets: Iterable[str] = (), addresses: Iterable[str] = ()) -> None:
        known = {form.translate(_LOWER) for secret in secrets for form in encodings(secret)}
        long = [form for form in known if len(form) >= WINDOW]
        self._windows = frozenset(form[at : at + WINDOW] for form in long for at in range(len(form) - WINDOW + 1))
        self._heads = frozenset(form[:length] for form in long for length in range(SHORTEST_HEAD, WINDOW))
        self._tails = frozenset(form[-length:] for form in long for length in range(SHORTEST_HEAD, WINDOW))
        self._short = _literals(form for form in known if len(form) < WINDOW)
        self._addresses = _literals(addresses)

    def __repr__(self) -> str:
        return "Redactor(…)"

    def secrets_out(self, text: str) -> str:
        """The text without secrets: whole, encoded, cut short, or masked by their maker."""
        text = _MASKED.sub(self._masked, CREDENTIAL.sub(MASK, text))
        if self._short is not None:
            text = self._short.sub(MASK, text)
        if not self._windows:
            return text
        lowered = text.translate(_LOWER)
        pieces, done = [], 0
        for begin, end in self._quotes(lowered):
            pieces += [text[done:begin], MASK]
            done = end
        cut = next((n for n in range(WINDOW - 1, SHORTEST_CUT - 1, -1) if lowered[-n:] in self._heads), 0)
        if cut and done <= len(text) - cut:
            return "".join([*pieces, text[done:-cut], MASK])
        return "".join([*pieces, text[done:]])

    def all_out(self, text: str) -> str:
        """The text without secrets and without addresses."""
        text = text if self._addresses is None else self._addresses.sub(MASK, text)
        return _IP_ADDRESS.sub(MASK, self.secrets_out(text))

    def value_out(self, value: Any) -> Any:
        """The same for each text in plain data."""
        match value:
            case str():
                return self.all_out(value[:LONGEST_VALUE])
            case dict():
                return {self.value_out(key): self.value_out(item) for key, item in value.items()}
            case list() | tuple():
                return [self.value_out(item) for item in value]
            case _:
                return value

    def clean(self, error: ModelportError) -> None:
        """Takes them out of an error whose words an upstream may have written."""
        error.message = self.all_out(error.message)
        error.args = (error.message,)
        error.code = self.all_out(error.code)
        error.target = None if error.target is None else self.all_out(error.target)
        if isinstance(error, InvalidParameters):
            error.offences = tuple(
                Offence(self.all_out(o.type), self.value_out(o.loc), self.all_out(o.msg), self.value_out(o.input))
                for o in error.offences
            )
        elif isinstance(error, ContentFiltered):
            error.results = self.value_out(dict(error.results))

    def _quotes(self, lowered: str) -> Iterator[tuple[int, int]]:
        """Where the text quotes a long secret: runs of windows that one has."""
        begin = end = -1
        for at in range(len(lowered) - WINDOW + 1):
            if lowered[at : at + WINDOW] not in self._windows:
                continue
            if at > end:
                if end > 0:
                    yield begin, end
                begin = at
            end = at + WINDOW
        if end > 0:
            yield begin, end

    def _masked(self, found: re.Match[str]) -> str:
        """A word with stars in it is a credential; one with dots only where it begins or ends as a secret does."""
        word = found[0]
        if re.search(r"\w\*{3}|\*{3}\w|[•●]{2}", word) is not None:
            return MASK
        head, *_, tail = re.split(r"\.{3,}|…|\*{2,}", word.translate(_LOWER))
        is_ours = head[: WINDOW - 1] in self._heads or tail[1 - WINDOW :] in self._tails
        return MASK if is_ours else word


def encodings(secret: str) -> set[str]:
    """A secret as it may be written: plain, for URLs, JSON and HTML, and as base64 with something before it."""
    raw = secret.encode("utf-8", "surrogateescape")
    found = {secret, quote(secret, safe=""), quote_plus(secret), html.escape(secret), json.dumps(secret)[1:-1]}
    found.add(json.dumps(secret)[1:-1].replace("/", "\\/"))
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).rstrip(b"=")
        stable = encoded[(0, 2, 3)[before] : len(encoded) - bool((before + len(raw)) % 3)].decode()
        if len(stable) >= WINDOW:
            found |= {stable, stable.replace("+", "-").replace("/", "_")}
    return {form for form in found if form}


def _literals(words: Iterable[str]) -> re.Pattern[str] | None:
    """Each of them as a word of its own, the longest first."""
    known = sorted({word for word in words if word}, key=len, reverse=True)
    if not known:
        return None
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, known))})(?![\w-])", re.IGNORECASE)
