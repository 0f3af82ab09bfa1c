"""Reading a checkpoint without running what it says, and converting it."""

from __future__ import annotations

import collections
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelport.engine.weights import WeightsError, WeightsFault, efficientnet
from modelport.engine.weights.efficientnet import convolutions, read_checkpoint

MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    """Pickles as a reference to a storage."""

    def __init__(self, key: str, numbers: np.ndarray, type_name: str = "FloatStorage") -> None:
        self.key, self.numbers, self.type_name = key, numbers, type_name


def checkpoint(path: Path, tensors: dict[str, tuple[Storage, int, tuple[int, ...], tuple[int, ...]]]) -> Path:
    """A file in torch's first format, written without torch."""
    storages = list({storage.key: storage for storage, *_ in tensors.values()}.values())
    body = b"\x80\x02ccollections\nOrderedDict\n)R("
    for name, (storage, offset, shape, strides) in tensors.items():
        body += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage")
        body += f"ctorch\n{storage.type_name}\n".encode() + text(storage.key) + text("cpu")
        body += number(storage.numbers.size) + b"NtQ" + number(offset) + numbers(shape) + numbers(strides)
        body += b"\x89ccollections\nOrderedDict\n)RtR"
    body += b"u."
    content = pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + body
    content += pickle.dumps([storage.key for storage in storages], 2)
    for storage in storages:
        content += struct.pack("<q", storage.numbers.size) + storage.numbers.tobytes()
    path.write_bytes(content)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def floats(*shape: int) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype="<f4")


def test_tensors_are_read_with_their_strides(tmp_path: Path) -> None:
    shared = Storage("a", floats(12))
    path = checkpoint(
        tmp_path / "c.pth",
        {"plain": (shared, 0, (3, 4), (4, 1)), "turned": (shared, 0, (4, 3), (1, 4)), "part": (shared, 8, (2,), (2,))},
    )
    tensors = read_checkpoint(path)
    np.testing.assert_array_equal(tensors["plain"], floats(12).reshape(3, 4))
    np.testing.assert_array_equal(tensors["turned"], floats(12).reshape(3, 4).T)
    np.testing.assert_array_equal(tensors["part"], [8, 10])


def test_a_checkpoint_that_names_another_function_is_refused_and_does_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    content += b"cos\nmkdir\n(" + text(os.fspath(trace)) + b"tR."
    path = tmp_path / "evil.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"os\.mkdir|posix\.mkdir") as caught:
        read_checkpoint(path)
    assert caught.value.fault is WeightsFault.CONVERSION_FAILED
    assert not trace.exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (13,), (1,)), (5, (8,), (1,)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,)), (0, (4, 4), (4, 1))],
)
def test_a_tensor_cannot_reach_outside_its_storage(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    path = checkpoint(tmp_path / "c.pth", {"t": (Storage("a", floats(12)), offset, shape, strides)})
    with pytest.raises(WeightsError, match="outside its storage"):
        read_checkpoint(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_a_spoilt_checkpoint_is_an_error_and_nothing_else(tmp_path: Path, position: int, value: int, cut: int) -> None:
    path = checkpoint(tmp_path / "c.pth", {"t": (Storage("a", floats(12)), 0, (3, 4), (4, 1))})
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content[: max(1, len(content) - cut % len(content))])
    try:
        tensors = read_checkpoint(path)
    except WeightsError as error:
        assert error.fault is WeightsFault.CONVERSION_FAILED
    else:
        assert all(tensor.size <= 12 for tensor in tensors.values())


def test_converting_folds_the_normalisation_into_the_convolution(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    tensors: dict[str, Any] = {}

    def add(name: str, *shape: int, low: float = -1.0) -> np.ndarray:
        values = random.uniform(low, 1.0, shape).astype("<f4")
        strides = tuple(int(np.prod(shape[index + 1 :])) for index in range(len(shape)))
        tensors[name] = (Storage(str(len(tensors)), values.ravel()), 0, shape, strides)
        return values

    stem: dict[str, np.ndarray] = {}
    for layer in convolutions():
        made = {"w": add(layer.weight, layer.out_channels, layer.in_channels, layer.kernel, layer.kernel)}
        for part, low in (("weight", 0.5), ("bias", -1.0), ("running_mean", -1.0), ("running_var", 0.1)):
            made[part] = add(f"{layer.norm}.{part}", layer.out_channels, low=low)
        stem = stem or made
    add("_fc.weight", 1000, 1280)
    add("_fc.bias", 1000)
    efficientnet.convert(checkpoint(tmp_path / "c.pth", tensors), tmp_path)
    written = np.fromfile(tmp_path / "weights.bin", dtype="<f4")
    assert written.nbytes == 18_524_000
    pixel = random.uniform(-1, 1, (3, 3, 3))
    plain = np.einsum("ocij,cij->o", stem["w"].astype(float), pixel)
    spread = np.sqrt(stem["running_var"].astype(float) + 1e-3)
    expected = (plain - stem["running_mean"]) / spread * stem["weight"] + stem["bias"]
    folded = np.einsum("ocij,cij->o", written[:864].reshape(32, 3, 3, 3), pixel) + written[864:896]
    np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "c.pth", collections.OrderedDict(x=(Storage("a", floats(12)), 0, (3, 4), (4, 1))))
    with pytest.raises(WeightsError, match="_conv_stem"):
        efficientnet.convert(path, tmp_path)
