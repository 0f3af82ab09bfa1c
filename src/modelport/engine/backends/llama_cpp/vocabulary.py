"""What the weights' own vocabulary says: control tokens, the ends of a turn, fill-in-the-middle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_CONTROL, _USER_DEFINED = 3, 4
# The engine ends on the last three as well.
_END_NAMES_WORDS: Final = (
    "<|eot_id|> <|im_end|> <|end|> <end_of_turn> <|endoftext|> <|end_of_text|> </s> <|eom_id|> <EOT> _<EOT> "
    "<|end_of_sentence|> <｜end▁of▁sentence｜> <|return|> <|call|> <eos> "
    "<|fim_pad|> <|repo_name|> <|file_sep|> <reponame>"
)
_END_NAMES: Final = frozenset(_END_NAMES_WORDS.split())
_MIDDLE_NAMES: Final = {
    "prefix": ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "<｜fim▁begin｜>", "▁<PRE>"),
    "suffix": ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "<｜fim▁hole｜>", "▁<SUF>"),
    "middle": ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "<｜fim▁end｜>", "▁<MID>"),
}
_UNKNOWN_LONGEST_BYTES: Final = 256
_MARKUP = re.compile(r"^(<.+>|\[[A-Z_/ ]+\])$")


@dataclass(frozen=True, slots=True)
class MiddleTokens:
    """The tokens around a text that has a hole."""

    prefix: int
    suffix: int
    middle: int


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Facts about tokens that the engine does not tell over its own routes."""

    size: int
    control: Mapping[int, str]
    ends: frozenset[int]
    beginning: int | None
    markup: tuple[str, ...]
    middle: MiddleTokens | None
    adds_space_prefix: bool
    longest_token_bytes: int = _UNKNOWN_LONGEST_BYTES
    """No token stands for more bytes of a text, so a text has at least one token for so many."""

    @classmethod
    def read(cls, metadata: Mapping[str, Any], size: int) -> Vocabulary:
        """From the metadata of a GGUF file."""
        tokens: list[str] = metadata.get("tokenizer.ggml.tokens") or []
        kinds: list[int] = metadata.get("tokenizer.ggml.token_type") or []
        control = {
            token: text for token, (text, kind) in enumerate(zip(tokens, kinds, strict=False)) if kind == _CONTROL
        }
        special = [
            (token, text)
            for token, (text, kind) in enumerate(zip(tokens, kinds, strict=False))
            if kind in (_CONTROL, _USER_DEFINED)
        ]
        named_ends = (metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom"))
        ends = {int(token) for token in named_ends if token is not None}
        ends |= {token for token, text in special if text in _END_NAMES}
        beginning = metadata.get("tokenizer.ggml.bos_token_id")
        return cls(
            size=size,
            control=control,
            ends=frozenset(ends),
            beginning=None if beginning is None else int(beginning),
            markup=tuple(text for token, text in special if token not in control and _MARKUP.match(text)),
            middle=_middle_tokens(metadata, {text: token for token, text in special}),
            adds_space_prefix=metadata.get("tokenizer.ggml.model") == "llama"
            and bool(metadata.get("tokenizer.ggml.add_space_prefix", True)),
            longest_token_bytes=_longest_token_bytes(tokens, str(metadata.get("tokenizer.ggml.model"))),
        )


def _longest_token_bytes(tokens: list[str], kind: str) -> int:
    """`gpt2` spells each byte as one character, and `llama` a space as three bytes; others may make one token of any
    unknown word, for which a usual bound has to do."""
    match kind:
        case "gpt2":
            return max(map(len, tokens), default=_UNKNOWN_LONGEST_BYTES)
        case "llama":
            return max((len(token.encode()) for token in tokens), default=_UNKNOWN_LONGEST_BYTES)
        case _:
            return max(len(token.encode()) for token in [*tokens, "x" * _UNKNOWN_LONGEST_BYTES])


def _middle_tokens(metadata: Mapping[str, Any], by_text: Mapping[str, int]) -> MiddleTokens | None:
    found: dict[str, int] = {}
    for part, names in _MIDDLE_NAMES.items():
        keys = (f"tokenizer.ggml.fim_{part[:3]}_token_id", f"tokenizer.ggml.{part}_token_id")
        token = next((metadata[key] for key in keys if metadata.get(key) is not None), None)
        token = token if token is not None else next((by_text[name] for name in names if name in by_text), None)
        if token is None:
            return None
        found[part] = int(token)
    return MiddleTokens(**found)
