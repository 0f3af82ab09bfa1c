"""Weights are described before they are loaded, and bad files are told apart from good ones without harm."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.backends.llama_cpp.gguf import UnreadableWeightsError, read_metadata
from modelport.engine.backends.llama_cpp.vocabulary import MiddleTokens, Vocabulary


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(pairs: dict[str, bytes], tensor_elements: int = 0, data: bytes = b"") -> bytes:
    """A file with these typed values and, if any, one tensor of 32-bit floats."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1 if tensor_elements else 0, len(pairs))
    head += b"".join(text(key) + value for key, value in pairs.items())
    if tensor_elements:
        head += text("w") + struct.pack("<IQIQ", 1, tensor_elements, 0, 0)
        head += bytes(-len(head) % 32)
    return head + data


def string(value: str) -> bytes:
    return struct.pack("<I", 8) + text(value)


def uint32(value: int) -> bytes:
    return struct.pack("<II", 4, value)


def strings(values: list[str]) -> bytes:
    return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))


def int32s(values: list[int]) -> bytes:
    return struct.pack("<IIQ", 9, 5, len(values)) + struct.pack(f"<{len(values)}i", *values)


def read(content: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        path.write_bytes(content)
        return read_metadata(path)


GOOD = gguf(
    {
        "general.architecture": string("llama"),
        "llama.context_length": uint32(2048),
        "tokenizer.ggml.tokens": strings(["<unk>", "</s>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "a"]),
        "tokenizer.ggml.token_type": int32s([2, 3, 4, 4, 4, 1]),
        "tokenizer.ggml.bos_token_id": uint32(5),
        "tokenizer.ggml.add_space_prefix": struct.pack("<I?", 7, True),
        "tokenizer.ggml.model": string("llama"),
    },
    tensor_elements=8,
    data=bytes(32),
)


def test_a_whole_file_is_described() -> None:
    metadata = read(GOOD)
    assert metadata["llama.context_length"] == 2048
    assert metadata["tokenizer.ggml.token_type"] == [2, 3, 4, 4, 4, 1]
    vocabulary = Vocabulary.read(metadata, 6)
    assert vocabulary.control == {1: "</s>"}
    assert vocabulary.ends == {1}
    assert vocabulary.beginning == 5
    assert vocabulary.middle == MiddleTokens(prefix=2, suffix=3, middle=4)
    assert vocabulary.adds_space_prefix


@given(st.integers(0, len(GOOD) - 1))
def test_a_file_that_ends_anywhere_before_its_end_is_refused(length: int) -> None:
    with pytest.raises(UnreadableWeightsError):
        read(GOOD[:length])


@given(st.integers(0, len(GOOD) - 33), st.integers(0, 255))
def test_a_damaged_byte_is_harmless(at: int, value: int) -> None:
    damaged = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
    try:
        read(damaged)
    except UnreadableWeightsError as error:
        assert "model.gguf" in str(error)


@given(st.binary(max_size=200))
def test_anything_else_is_not_weights(content: bytes) -> None:
    for start in (b"", b"GGUF\x03\0\0\0"):
        try:
            read(start + content)
        except UnreadableWeightsError as error:
            assert "model.gguf" in str(error)


def test_lengths_that_no_file_has_are_refused_before_anything_is_allocated() -> None:
    huge = struct.pack("<Q", 1 << 60)
    for damaged in (b"GGUF\x03\0\0\0" + huge + huge, GOOD[:24] + huge + GOOD[32:]):
        with pytest.raises(UnreadableWeightsError, match="damaged"):
            read(damaged)
