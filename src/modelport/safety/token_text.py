"""Log-probabilities name tokens, which are text: they may go with the text that they are about, and with no other."""

from __future__ import annotations

import re
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


def readable(logprobs: dict[str, Any], said: str, may_be_said: Callable[[str], bool]) -> dict[str, Any] | None:
    """What of them may leave together with `said`, which ends with their text; None: they are about another text.
    `may_be_said`: whether a filter lets tokens pass that the model might have chosen."""
    if "tokens" in logprobs:
        return _of_text(logprobs, said, may_be_said)
    if not logprobs.keys() <= CHAT_LISTS:
        return None
    found: dict[str, Any] = {}
    for name, entries in logprobs.items():
        if entries is not None and not (isinstance(entries, list) and _are_in(said, map(_bytes_of, entries))):
            return None
        found[name] = entries and _with_alternatives(entries, may_be_said)
    return found


def _of_text(logprobs: dict[str, Any], said: str, may_be_said: Callable[[str], bool]) -> dict[str, Any] | None:
    """The arrays of text completions."""
    tokens, alternatives = logprobs["tokens"], logprobs.get("top_logprobs") or []
    rest = [value for name, value in logprobs.items() if name not in ("tokens", "top_logprobs")]
    if not logprobs.keys() <= TEXT_ARRAYS or any(strings(rest)):
        return None
    if not isinstance(tokens, list) or not _are_in(said, (_bytes_of({"token": token}) for token in tokens)):
        return None
    if not isinstance(alternatives, list):
        return None
    passes = _passing([SEPARATOR.join(strings(one)) for one in alternatives], may_be_said)
    if all(passes):
        return logprobs
    return {
        **logprobs,
        "top_logprobs": [one if passed else {} for one, passed in zip(alternatives, passes, strict=True)],
    }


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


def _are_in(said: str, tokens: Iterable[bytes | None]) -> bool:
    found = list(tokens)
    if any(token is None for token in found):
        return False
    return _decoded(token for token in found if token).strip() in said


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
