"""Small ONNX models and a tokenizer whose every number is known, for tests of the backends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "red", "green", "blue", "word"]
TABLE = np.array(
    [
        [9, 9, 9, 9],  # [PAD]: spoils a mean that forgets the mask
        [0, 0, 0, 1],  # [CLS]
        [0, 0, 0, 1],  # [SEP]
        [0, 0, 0, 3],  # [UNK]
        [6, 0, 0, 0],
        [0, 6, 0, 0],
        [0, 0, 6, 0],
        [2, 2, 2, 0],
    ],
    dtype=np.float32,
)
"""What the text model says for each token."""


def write_tokenizer(path: Path) -> Path:
    """Splits at spaces and puts [CLS] and [SEP] around."""
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_truncation(16)
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    return path


def write_text_model(path: Path, *, pooled: bool = False, batch: int | str = "batch") -> Path:
    """Looks each token up in TABLE; `pooled` gives the sum of a text's tokens as `text_embeds`."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [batch, "length"])]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [batch, "length", 4])
    if pooled:
        nodes.append(helper.make_node("ReduceSum", ["last_hidden_state", "axis"], ["text_embeds"], keepdims=0))
        output = helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, [batch, 4])
    else:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [batch, "length"]))
    tensors = [
        numpy_helper.from_array(TABLE, "table"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
    ]
    return _write(path, nodes, inputs, output, tensors[: 2 if pooled else 1])


def write_image_model(path: Path, size: int = 8) -> Path:
    """The mean of each colour channel, and a fourth number that is 0."""
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values"], ["colours"], axes=[2, 3], keepdims=0),
        helper.make_node("Pad", ["colours", "pads"], ["image_embeds"]),
    ]
    inputs = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, size, size])]
    output = helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", 4])
    tensors = [numpy_helper.from_array(np.array([0, 0, 0, 1], dtype=np.int64), "pads")]
    return _write(path, nodes, inputs, output, tensors)


def write_nsfw_model(path: Path) -> Path:
    """Reads open_nsfw's input, and says how red it is: 0 for black, 1 for red."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["bgr"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["bgr", "weights"], ["mean"]),
        helper.make_node("Add", ["mean", "bias"], ["predictions"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 224, 224, 3])]
    output = helper.make_tensor_value_info("predictions", TensorProto.FLOAT, ["batch", 2])
    weights = np.array([[0, 0], [0, 0], [-1 / 255, 1 / 255]], dtype=np.float32)
    bias = np.array([1 - 123 / 255, 123 / 255], dtype=np.float32)
    tensors = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]
    return _write(path, nodes, inputs, output, tensors)


def _write(path: Path, nodes: list, inputs: list, output: onnx.ValueInfoProto, tensors: list) -> Path:
    graph = helper.make_graph(nodes, "tiny", inputs, [output], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
