"""The grammar compiler inside the engine's library, called by itself: the same code, without a model.

The wheel exports llguidance's C interface (llguidance.h). Its version is pinned in pyproject.toml; structures end with
room for fields that a later version may add.
"""

from __future__ import annotations

import ctypes
import importlib.util
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_CONTROL: Final = 3  # a token's type
_WORD_BITS: Final = 32


Chooser = Callable[[Sequence[int]], int | None]
"""Takes the words of a mask of allowed tokens and gives a token, or None to stop."""


def is_allowed(token: int, words: Sequence[int]) -> bool:
    """Whether the mask allows the token."""
    return bool(words[token // _WORD_BITS] >> token % _WORD_BITS & 1)


class GrammarError(Exception):
    """The compiler refuses the grammar or gives up on it; the text is its reason."""


class _TokenizerInit(ctypes.Structure):
    _fields_ = [
        ("vocab_size", ctypes.c_uint32),
        ("tok_eos", ctypes.c_uint32),
        ("token_lens", ctypes.c_void_p),
        ("token_bytes", ctypes.c_void_p),
        ("tokenizer_json", ctypes.c_char_p),
        ("tokenize_assumes_string", ctypes.c_bool),
        ("tokenize_fn", ctypes.c_void_p),
        ("use_approximate_greedy_tokenize_fn", ctypes.c_bool),
        ("tokenize_user_data", ctypes.c_void_p),
        ("slices", ctypes.c_void_p),
        ("later_fields", ctypes.c_uint64 * 8),
    ]


class _Mask(ctypes.Structure):
    _fields_ = [
        ("allowed", ctypes.POINTER(ctypes.c_uint32)),
        ("temperature", ctypes.c_float),
        ("is_stop", ctypes.c_bool),
        ("later_fields", ctypes.c_uint64 * 4),
    ]


class _Commit(ctypes.Structure):
    _fields_ = [
        ("tokens", ctypes.POINTER(ctypes.c_uint32)),
        ("count", ctypes.c_uint32),
        ("is_stop", ctypes.c_bool),
        ("later_fields", ctypes.c_uint64 * 4),
    ]


class GrammarCompiler:
    """Compiles grammars for one vocabulary."""

    def __init__(self, tokens: Sequence[bytes], end: int) -> None:
        self._library = _library()
        self._tokens = tokens
        self._bytes = [index for index, token in enumerate(tokens) if len(token) == 1]
        lengths = (ctypes.c_uint32 * len(tokens))(*map(len, tokens))
        joined = b"".join(tokens)
        text = ctypes.create_string_buffer(joined, len(joined))
        init = _TokenizerInit(
            vocab_size=len(tokens),
            tok_eos=end,
            token_lens=ctypes.cast(lengths, ctypes.c_void_p),
            token_bytes=ctypes.cast(text, ctypes.c_void_p),
            tokenize_assumes_string=True,
            use_approximate_greedy_tokenize_fn=True,
        )
        error = ctypes.create_string_buffer(256)
        tokenizer = self._library.llg_new_tokenizer(ctypes.byref(init), error, len(error))
        if not tokenizer:
            raise GrammarError(error.value.decode(errors="replace"))
        self._settings = ctypes.create_string_buffer(1024)
        self._library.llg_constraint_init_set_defaults(self._settings, tokenizer)

    def walk(self, grammar: str, steps: int, choose: Chooser) -> bytes:
        """The text of at most `steps` tokens that `choose` makes of what the grammar allows. Raises GrammarError."""
        constraint = self._library.llg_new_constraint_any(self._settings, b"lark", grammar.encode())
        written, mask, commit = bytearray(), _Mask(), _Commit()
        try:
            self._check(constraint)
            for _ in range(steps):
                self._library.llg_compute_mask(constraint, ctypes.byref(mask))
                self._check(constraint)
                words = mask.allowed[: (len(self._tokens) + _WORD_BITS - 1) // _WORD_BITS] if not mask.is_stop else []
                token = choose(words) if words else None
                if token is None:
                    break
                written += self._tokens[token]
                self._library.llg_commit_token(constraint, token, ctypes.byref(commit))
                self._check(constraint)
                if commit.is_stop:
                    break
        finally:
            self._library.llg_free_constraint(constraint)
        return bytes(written)

    def draw(self, seed: int) -> Chooser:
        """Draws among the allowed tokens; even seeds prefer those of one byte, which visit more states of a grammar."""
        draw = random.Random(seed)  # noqa: S311  no secret is made of it
        preferred = self._bytes if seed % 2 == 0 else []

        def choose(words: Sequence[int]) -> int:
            single = [token for token in preferred if is_allowed(token, words)]
            if single:
                return draw.choice(single)
            at = draw.choice([at for at, word in enumerate(words) if word])
            return at * _WORD_BITS + draw.choice([bit for bit in range(_WORD_BITS) if words[at] >> bit & 1])

        return choose

    def _check(self, constraint: int) -> None:
        error = self._library.llg_get_error(constraint)
        if error:
            raise GrammarError(error.decode(errors="replace"))


def token_bytes(metadata: Mapping[str, Any]) -> list[bytes]:
    """The bytes of each token of a GGUF file's vocabulary; control tokens are marked as the compiler wants them."""
    texts: list[str] = metadata.get("tokenizer.ggml.tokens") or []
    kinds: list[int] = metadata.get("tokenizer.ggml.token_type") or [1] * len(texts)
    decode = _decode_bytes if metadata.get("tokenizer.ggml.model") == "gpt2" else _decode_pieces
    return [
        b"\xff" + text.encode() if kind == _CONTROL else decode(text) for text, kind in zip(texts, kinds, strict=True)
    ]


def _byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others follow from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}


_LETTERS: Final = _byte_letters()


def _decode_bytes(text: str) -> bytes:
    try:
        return bytes(_LETTERS[letter] for letter in text)
    except KeyError:
        return text.encode()  # an added token, written as it is


def _decode_pieces(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x"):
        return bytes.fromhex(text[3:5])
    return text.replace("\u2581", " ").encode()


def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("xllamacpp")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.so")]
    library = ctypes.CDLL(str(files[0]))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "llg_new_tokenizer": (pointer, [pointer, text, ctypes.c_size_t]),
        "llg_constraint_init_set_defaults": (None, [pointer, pointer]),
        "llg_new_constraint_any": (pointer, [pointer, text, text]),
        "llg_get_error": (text, [pointer]),
        "llg_compute_mask": (ctypes.c_int32, [pointer, pointer]),
        "llg_commit_token": (ctypes.c_int32, [pointer, ctypes.c_uint32, pointer]),
        "llg_free_constraint": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
