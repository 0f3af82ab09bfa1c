"""Makes `minilm_float32.onnx.gz`: all-MiniLM-L6-v2's graph, whose tensors lie in the published `model.safetensors`.

    python scripts/make_minilm_graph.py MODEL.safetensors        (needs the package `onnx`, which modelport does not)

A safetensors file is a header and then plain tensors, and ONNX can name a tensor by file and offset: so the published
file is used as it is, and only this graph is ours.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelport.engine import weights

OUT = Path(weights.__file__).parent / "data" / "minilm_float32.onnx.gz"
TENSORS_FILE = "model.safetensors"
LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12


class Graph:
    """Nodes, and tensors by their place in the safetensors file."""

    def __init__(self, header: dict[str, dict], data_start: int) -> None:
        self.header, self.data_start = header, data_start
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def external(self, name: str) -> str:
        """A tensor of the file."""
        begin, end = self.header[name]["data_offsets"]
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=self.header[name]["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", TENSORS_FILE), ("offset", self.data_start + begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
        return name

    def constant(self, name: str, value: object, kind: type = np.int64) -> str:
        self.tensors.append(numpy_helper.from_array(np.array(value, dtype=kind), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def dense(self, value: str, place: str, output: str) -> str:
        """A linear layer; the file holds its weight as outputs by inputs."""
        turned = self.node("Transpose", [self.external(f"{place}.weight")], f"{output}.t", perm=[1, 0])
        value = self.node("MatMul", [value, turned], f"{output}.m")
        return self.node("Add", [value, self.external(f"{place}.bias")], output)

    def norm(self, value: str, place: str, output: str) -> str:
        scale, shift = self.external(f"{place}.weight"), self.external(f"{place}.bias")
        return self.node("LayerNormalization", [value, scale, shift], output, axis=-1, epsilon=EPSILON)

    def heads(self, value: str, output: str, order: list[int]) -> str:
        """Splits the width into heads and brings the axes into `order`."""
        value = self.node("Reshape", [value, "split"], f"{output}.s")
        return self.node("Transpose", [value], output, perm=order)

    def layer(self, value: str, index: int) -> str:
        place, name = f"encoder.layer.{index}", f"l{index}"
        own = f"{place}.attention.self"
        query = self.heads(self.dense(value, f"{own}.query", f"{name}.q"), f"{name}.qh", [0, 2, 1, 3])
        key = self.heads(self.dense(value, f"{own}.key", f"{name}.k"), f"{name}.kh", [0, 2, 3, 1])
        content = self.heads(self.dense(value, f"{own}.value", f"{name}.v"), f"{name}.vh", [0, 2, 1, 3])
        scores = self.node("Mul", [self.node("MatMul", [query, key], f"{name}.qk"), "scale"], f"{name}.scaled")
        share = self.node("Softmax", [self.node("Add", [scores, "bias"], f"{name}.masked")], f"{name}.p", axis=-1)
        mixed = self.node("MatMul", [share, content], f"{name}.pv")
        joined = self.node(
            "Reshape", [self.node("Transpose", [mixed], f"{name}.j", perm=[0, 2, 1, 3]), "join"], f"{name}.o"
        )
        joined = self.dense(joined, f"{place}.attention.output.dense", f"{name}.od")
        value = self.node("Add", [joined, value], f"{name}.r1")
        value = self.norm(value, f"{place}.attention.output.LayerNorm", f"{name}.n1")
        wide = self.gelu(self.dense(value, f"{place}.intermediate.dense", f"{name}.i"), f"{name}.g")
        wide = self.dense(wide, f"{place}.output.dense", f"{name}.w")
        return self.norm(self.node("Add", [wide, value], f"{name}.r2"), f"{place}.output.LayerNorm", f"{name}.n2")

    def gelu(self, value: str, output: str) -> str:
        """x/2 * (1 + erf(x/√2)), in the order of nodes that ONNX Runtime fuses."""
        error = self.node("Erf", [self.node("Div", [value, "root_two"], f"{output}.d")], f"{output}.e")
        half = self.node("Mul", [value, self.node("Add", [error, "one"], f"{output}.a")], f"{output}.x")
        return self.node("Mul", [half, "half"], output)

    def embeddings(self) -> str:
        words = self.node("Gather", [self.external("embeddings.word_embeddings.weight"), "input_ids"], "words")
        kinds = self.external("embeddings.token_type_embeddings.weight")
        kinds = self.node("Gather", [kinds, "token_type_ids"], "kinds")
        length = self.node("Gather", [self.node("Shape", ["input_ids"], "shape"), "index_one"], "length")
        places = self.node("Range", ["index_zero", length, "index_one"], "places")
        positions = self.external("embeddings.position_embeddings.weight")
        positions = self.node("Gather", [positions, places], "positions")
        value = self.node("Add", [self.node("Add", [words, kinds], "wk"), positions], "wkp")
        return self.norm(value, "embeddings.LayerNorm", "embedded")

    def attention_bias(self) -> None:
        """0 where a token may be looked at, a very low number where not; one row per text."""
        mask = self.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
        mask = self.node("Unsqueeze", [mask, "mask_axes"], "mask4")
        self.node("Mul", [self.node("Sub", ["one", mask], "hidden"), "lowest"], "bias")


def build(header: dict[str, dict], data_start: int) -> onnx.ModelProto:
    """Token ids (N, L) to token states (N, L, 384)."""
    graph = Graph(header, data_start)
    for name, number in (("index_zero", 0), ("index_one", 1)):
        graph.constant(name, number)
    graph.constant("split", [0, 0, HEADS, WIDTH // HEADS])
    graph.constant("join", [0, 0, WIDTH])
    graph.constant("mask_axes", [1, 2])
    for name, number in (
        ("scale", (WIDTH // HEADS) ** -0.5),
        ("one", 1.0),
        ("half", 0.5),
        ("root_two", 2.0**0.5),
        ("lowest", -10_000.0),
    ):
        graph.constant(name, number, np.float32)
    graph.attention_bias()
    value = graph.embeddings()
    for index in range(LAYERS):
        value = graph.layer(value, index)
    graph.node("Identity", [value], "last_hidden_state")
    names = ("input_ids", "attention_mask", "token_type_ids")
    body = helper.make_graph(
        graph.nodes,
        "all_minilm_l6_v2",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", WIDTH])],
        graph.tensors,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="modelport")


def main(path: Path) -> None:
    """Reads the header of the safetensors file and writes the graph."""
    with path.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    content = build(header, 8 + size).SerializeToString(deterministic=True)
    OUT.write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
