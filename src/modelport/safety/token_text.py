"""Log-probabilities name tokens, which are text: they may go with the text that they are about, and with no other."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from typing import Any, Final

from modelport.safety.passages import SEPARATOR, strings

MARK: Final = re.compile(r"<\S{1,40}>")
"""A token that ends a turn: it is written in no text."""
ESCAPED: Final = re.compile(r"(?:bytes:)?((?:\\x[0-9a-f]{2})+)")
"""A token that is a part of a character, as OpenAI writes it."""
BLANKS: Final = {ord("▁"): " ", ord("Ġ"): " ", ord("Ċ"): "\n"}
"""How vocabularies write white space."""
LONGEST_CHARACTER_BYTES: Final = 4
CHAT_LISTS: Final = frozenset(("content", "refusal"))
ALTERNATIVE: Final = frozenset(("token", "bytes", "logprob"))
ENTRY: Final = ALTERNATIVE | {"top_logprobs"}
TEXT_ARRAYS: Final = frozenset(("tokens", "token_logprobs", "top_logprobs", "text_offset"))


class TokenText:
    """Of one choice: whether its tokens are its text, from the beginning on and without a gap."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("ignore")
        self._said = ""
        """Text of which no tokens have come."""
        self._is_first = self._is_same = True

    def said(self, text: str) -> None:
        """The next piece of content or refusal."""
        if self._is_same:
            self._said += text

    def readable(self, logprobs: dict[str, Any], may_be_said: Callable[[str], bool]) -> dict[str, Any] | None:
        """What of them may leave together with what was said last; None: they are not about it, or those before were
        not. `may_be_said`: whether a filter lets tokens pass that the model might have chosen."""
        said, self._said = self._said, ""
        tokens = _tokens(logprobs) if self._is_same else None
        if tokens is not None:
            named = self._decoder.decode(b"".join(tokens))
            if self._is_first:  # hosts take the white space around an answer away
                named, said = named.strip(), said.strip()
            self._is_same, self._is_first = named == said, False
        else:
            self._is_same = False
        return _with_passing(logprobs, may_be_said) if self._is_same else None


def _tokens(logprobs: dict[str, Any]) -> list[bytes] | None:
    """What their tokens say, in either shape; None: there is more in them than tokens."""
    if "tokens" in logprobs:
        rest = [value for name, value in logprobs.items() if name not in ("tokens", "top_logprobs")]
        is_known = logprobs.keys() <= TEXT_ARRAYS and not any(strings(rest)) and isinstance(logprobs["tokens"], list)
        entries = [{"token": token} for token in logprobs["tokens"]] if is_known else [None]
    else:
        lists = [entries for entries in logprobs.values() if entries is not None]
        is_known = logprobs.keys() <= CHAT_LISTS and all(isinstance(entries, list) for entries in lists)
        entries = [entry for entries in lists for entry in entries] if is_known else [None]
    found = [_bytes_of(entry) for entry in entries]
    return None if None in found else [token for token in found if token is not None]


def _with_passing(logprobs: dict[str, Any], may_be_said: Callable[[str], bool]) -> dict[str, Any]:
    """The same without alternatives that a filter finds something in."""
    if "tokens" not in logprobs:
        return {name: entries and _with_alternatives(entries, may_be_said) for name, entries in logprobs.items()}
    alternatives = logprobs.get("top_logprobs")
    if not isinstance(alternatives, list):
        return {**logprobs, "top_logprobs": None}
    passes = _passing([SEPARATOR.join(strings(one)) for one in alternatives], may_be_said)
    passed = [one if passes else {} for one, passes in zip(alternatives, passes, strict=True)]
    return {**logprobs, "top_logprobs": passed}


def _with_alternatives(entries: list[dict[str, Any]], may_be_said: Callable[[str], bool]) -> list[dict[str, Any]]:
    passes = _passing([_alternatives(entry.get("top_logprobs")) for entry in entries], may_be_said)
    return [entry if passed else {**entry, "top_logprobs": []} for entry, passed in zip(entries, passes, strict=True)]


def _alternatives(found: Any) -> str | None:
    """Their tokens; None: they say more than tokens."""
    if not found:
        return ""
    tokens = [_bytes_of(one, ALTERNATIVE) for one in found] if isinstance(found, list) else [None]
    return None if None in tokens else SEPARATOR.join(_decoded([token]) for token in tokens if token)


def _passing(texts: list[str] | list[str | None], may_be_said: Callable[[str], bool]) -> list[bool]:
    """Which of them pass. They are judged together, and only where that fails in halves."""
    known = [text for text in texts if text is not None]
    if len(known) == len(texts) and (not any(known) or may_be_said(SEPARATOR.join(known))):
        return [True] * len(texts)
    if len(texts) == 1:
        return [False]
    middle = len(texts) // 2
    return [*_passing(texts[:middle], may_be_said), *_passing(texts[middle:], may_be_said)]


def _decoded(tokens: Iterable[bytes]) -> str:
    return b"".join(tokens).decode("utf-8", "ignore")


def _bytes_of(entry: Any, fields: frozenset[str] = ENTRY) -> bytes | None:
    """What a token adds to a text; None: it says several things."""
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str) or not entry.keys() <= fields:
        return None
    token, given = entry["token"].translate(BLANKS), entry.get("bytes")
    if any(strings([given, entry.get("logprob")])):
        return None
    escaped = ESCAPED.fullmatch(token)
    meant = bytes.fromhex(escaped[1].replace("\\x", "")) if escaped is not None else token.encode("utf-8", "replace")
    if isinstance(given, list):
        try:
            made = bytes(given)
        except (TypeError, ValueError):
            return None
        is_part = not token.strip("\N{REPLACEMENT CHARACTER}")
        if made != meant and not (is_part and len(made) <= LONGEST_CHARACTER_BYTES):
            return None
        meant = made
    return b"" if MARK.fullmatch(token) is not None else meant
