"""Makes `efficientnet_lite0.onnx.gz`: the network's graph, whose tensors lie by offset in a `weights.bin` beside it.

python scripts/make_efficientnet_graph.py        (needs the package `onnx`, which modelport itself does not)
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelport.engine.weights import efficientnet

OUT = Path(efficientnet.__file__).parent / "data" / "efficientnet_lite0.onnx.gz"


class Graph:
    """Nodes and tensors in the order in which the conversion writes them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = [
            helper.make_tensor("six_low", TensorProto.FLOAT, (), np.float32(0).tobytes(), raw=True),
            helper.make_tensor("six_high", TensorProto.FLOAT, (), np.float32(6).tobytes(), raw=True),
        ]
        self.offset = 0

    def external(self, name: str, shape: tuple[int, ...]) -> str:
        """A tensor whose numbers are the next ones in the tensors' file."""
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        length = int(np.prod(shape)) * 4
        for key, value in (("location", efficientnet.TENSORS_FILE), ("offset", self.offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self.offset += length
        self.tensors.append(tensor)
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def convolution(self, value: str, layer: efficientnet.Convolution) -> str:
        weight = self.external(layer.name + ".w", (layer.out_channels, layer.in_channels, layer.kernel, layer.kernel))
        bias = self.external(layer.name + ".b", (layer.out_channels,))
        value = self.node(
            "Conv",
            [value, weight, bias],
            layer.name,
            auto_pad="SAME_UPPER",
            group=layer.groups,
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
        )
        return self.node("Clip", [value, "six_low", "six_high"], layer.name + ".a") if layer.relu6 else value


def build() -> onnx.ModelProto:
    """Pixels (N, 3, 224, 224) to class probabilities (N, 1000)."""
    graph = Graph()
    value = graph.convolution("pixels", efficientnet.STEM)
    for block in efficientnet.blocks():
        entered = value
        for layer in block.convolutions:
            value = graph.convolution(value, layer)
        if block.residual:
            value = graph.node("Add", [value, entered], block.convolutions[-1].name + ".r")
    value = graph.convolution(value, efficientnet.HEAD)
    value = graph.node("GlobalAveragePool", [value], "pool")
    value = graph.node("Flatten", [value], "flat")
    weight = graph.external("fc.w", (efficientnet.CLASSES, efficientnet.HEAD.out_channels))
    value = graph.node("Gemm", [value, weight, graph.external("fc.b", (efficientnet.CLASSES,))], "logits", transB=1)
    graph.node("Softmax", [value], "probabilities", axis=1)
    body = helper.make_graph(
        graph.nodes,
        "efficientnet_lite0",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", efficientnet.CLASSES])],
        graph.tensors,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="modelport")


if __name__ == "__main__":
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(gzip.compress(build().SerializeToString(deterministic=True), mtime=0))
