"""Turns the published EfficientNet-Lite0 checkpoint into what ONNX Runtime loads, with numpy alone.

The graph is a small file of this project that names its tensors by offset in `weights.bin`; the conversion folds each
batch normalisation into its convolution and writes that file. A checkpoint is a pickle, and a pickle can run code, so
it is read by an unpickler that knows three names and refuses every other.
"""

from __future__ import annotations

import collections
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from modelport.engine.weights.faults import WeightsError, WeightsFault

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BATCH_NORM_EPSILON = 1e-3
TENSORS_FILE = "weights.bin"

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_TENSORS = 10_000


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution with the batch normalisation that follows it."""

    name: str
    weight: str
    norm: str
    stride: int
    groups: int
    out_channels: int
    in_channels: int
    kernel: int
    relu6: bool


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual block: its convolutions in order, and whether its input is added to its output."""

    convolutions: tuple[Convolution, ...]
    residual: bool


# repeats, kernel, stride of the first repeat, expansion, input channels, output channels
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
STEM = Convolution("stem", "_conv_stem.weight", "_bn0", 2, 1, 32, 3, 3, True)
HEAD = Convolution("head", "_conv_head.weight", "_bn1", 1, 1, 1280, 320, 1, True)
CLASSES = 1000


def blocks() -> Iterator[Block]:
    """The sixteen blocks between stem and head."""
    index = 0
    for repeats, kernel, first_stride, expansion, stage_in, out in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            channels = stage_in if repeat == 0 else out
            wide = channels * expansion
            prefix = f"_blocks.{index}."
            parts = []
            if expansion != 1:
                parts.append(
                    Convolution(
                        f"b{index}e",
                        prefix + "_expand_conv.weight",
                        prefix + "_bn0",
                        1,
                        1,
                        wide,
                        channels,
                        1,
                        True,
                    )
                )
            parts += [
                Convolution(
                    f"b{index}d",
                    prefix + "_depthwise_conv.weight",
                    prefix + "_bn1",
                    stride,
                    wide,
                    wide,
                    1,
                    kernel,
                    True,
                ),
                Convolution(f"b{index}p", prefix + "_project_conv.weight", prefix + "_bn2", 1, 1, out, wide, 1, False),
            ]
            yield Block(tuple(parts), residual=stride == 1 and channels == out)
            index += 1


def convolutions() -> Iterator[Convolution]:
    """Every convolution, in the order in which `weights.bin` holds their tensors."""
    yield STEM
    for block in blocks():
        yield from block.convolutions
    yield HEAD


def convert(checkpoint: Path, folder: Path) -> None:
    """Writes `weights.bin` into `folder`. Raises WeightsError if it cannot."""
    tensors = read_checkpoint(checkpoint)
    with (folder / TENSORS_FILE).open("wb") as out:
        for convolution in convolutions():
            weight, bias = _folded(tensors, convolution)
            out.write(weight.tobytes())
            out.write(bias.tobytes())
        for name, shape in (("_fc.weight", (CLASSES, HEAD.out_channels)), ("_fc.bias", (CLASSES,))):
            out.write(_tensor(tensors, name, shape).astype("<f4").tobytes())


def _folded(tensors: dict[str, npt.NDArray[Any]], convolution: Convolution) -> tuple[Any, Any]:
    """Weight and bias with the normalisation folded in, computed in double precision so that every machine agrees."""
    import numpy as np

    vector = (convolution.out_channels,)
    weight = _tensor(
        tensors,
        convolution.weight,
        (convolution.out_channels, convolution.in_channels, convolution.kernel, convolution.kernel),
    ).astype(np.float64)
    scale = _tensor(tensors, convolution.norm + ".weight", vector).astype(np.float64)
    shift = _tensor(tensors, convolution.norm + ".bias", vector).astype(np.float64)
    mean = _tensor(tensors, convolution.norm + ".running_mean", vector).astype(np.float64)
    variance = _tensor(tensors, convolution.norm + ".running_var", vector).astype(np.float64)
    factor = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
    return (weight * factor[:, None, None, None]).astype("<f4"), (shift - mean * factor).astype("<f4")


def _tensor(tensors: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape:
        raise _unreadable(f"tensor {name!r} is missing or has another shape")
    return tensor


@dataclass(frozen=True, slots=True)
class _Storage:
    """A storage that the pickle refers to; its numbers follow after the pickles."""

    type_name: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    struct.error,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
)
"""What an unpickler may raise on bytes that are no pickle."""

_STORAGE_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _CheckpointUnpickler(pickle.Unpickler):
    """Knows ordered dictionaries, tensors and two kinds of storage; everything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_TYPES:
            return name
        raise pickle.UnpicklingError(f"the checkpoint refers to {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", str(type_name), str(key), "cpu", int(count), None) if type_name in _STORAGE_TYPES:
                return _Storage(type_name, key, count)
            case _:
                raise pickle.UnpicklingError("an unknown persistent object")


def read_checkpoint(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors of a checkpoint in torch's first file format: five pickles, then the storages' bytes."""
    try:
        with path.open("rb") as stream:
            if _load(stream) != _LEGACY_MAGIC or _load(stream) != _LEGACY_PROTOCOL:
                raise pickle.UnpicklingError("not a checkpoint")
            _load(stream)  # the writer's integer sizes: the storages below name their own
            state = _load(stream)
            keys = _load(stream)
            storages = {key: _read_numbers(stream, size) for key, size in _storage_sizes(state, keys)}
    except _MALFORMED as error:
        raise _unreadable(str(error) or type(error).__name__) from error
    return {name: _view(tensor, storages) for name, tensor in state.items()}


def _load(stream: IO[bytes]) -> Any:
    return _CheckpointUnpickler(stream).load()


def _storage_sizes(state: Any, keys: Any) -> list[tuple[str, tuple[str, int]]]:
    """The storages in file order, with type and element count."""
    if not isinstance(state, dict) or not isinstance(keys, list) or len(keys) > _MAX_TENSORS:
        raise pickle.UnpicklingError("not a state dictionary")
    if not all(isinstance(tensor, _Tensor) for tensor in state.values()):
        raise pickle.UnpicklingError("not a state dictionary")
    known = {
        tensor.storage.key: (_STORAGE_TYPES[tensor.storage.type_name], tensor.storage.count)
        for tensor in state.values()
    }
    return [(key, known[key]) for key in keys]


def _read_numbers(stream: IO[bytes], size: tuple[str, int]) -> npt.NDArray[Any]:
    import numpy as np

    type_code, count = size
    (stored,) = struct.unpack("<q", stream.read(8))
    if stored != count:
        raise pickle.UnpicklingError("a storage of another size")
    data = stream.read(count * np.dtype(type_code).itemsize)
    return np.frombuffer(data, dtype=type_code, count=count)


def _view(tensor: _Tensor, storages: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The tensor as an array; its strides may be any, so its furthest element is checked against the storage first."""
    import numpy as np

    storage = storages[tensor.storage.key]
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    if len(shape) != len(strides) or any(number < 0 for number in (offset, *shape, *strides)):
        raise _unreadable("a tensor outside its storage")
    furthest = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True) if extent)
    if furthest >= storage.size:
        raise _unreadable("a tensor outside its storage")
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, tuple(stride * storage.itemsize for stride in strides), writeable=False
    )


def _unreadable(reason: str) -> WeightsError:
    return WeightsError(WeightsFault.CONVERSION_FAILED, f"The EfficientNet checkpoint cannot be read: {reason}.")
