"""Opens an ONNX model so that it behaves beside other busy processes, and says in plain words when it cannot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from modelport.core.environment import NO_TELEMETRY

os.environ.update(NO_TELEMETRY)  # before the import: the library reads it while it is loaded
import onnxruntime

onnxruntime.disable_telemetry_events()
_THREADS_AT_MOST = 4


class ModelFileError(ValueError):
    """A model or tokenizer file, or an option about it, cannot be used; the message is for the operator."""


def thread_count(setting: object) -> int:
    """The threads of one model: a number, or `auto` for the cores that this process may use, at most four."""
    if setting is None or setting == "auto":
        return max(1, min(_THREADS_AT_MOST, len(os.sched_getaffinity(0))))
    if isinstance(setting, bool) or not isinstance(setting, int) or not 1 <= setting <= 1024:
        raise ModelFileError(f"'threads' must be 'auto' or a number from 1 to 1024, not {setting!r}.")
    return setting


def open_session(path: Path, threads: int, graph: bytes | None = None) -> onnxruntime.InferenceSession:
    """The loaded model; with `graph`, that one, whose tensors lie in files beside `path`. Raises ModelFileError."""
    if not path.is_file():
        raise ModelFileError(f"There is no ONNX model at {path}.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Spinning threads starve every other process of the machine, the chat model's first.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if graph is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        return onnxruntime.InferenceSession(graph or str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common base but Exception
        raise ModelFileError(f"{path} is not an ONNX model that can be loaded: {_first_line(error)}") from error


def path_option(options: Mapping[str, Any], name: str) -> Path | None:
    """A path from the options, with `~` resolved; None if it is not given."""
    value = options.get(name)
    if value is None:
        return None
    if not isinstance(value, str | Path):
        raise ModelFileError(f"'{name}' must be a path.")
    return Path(value).expanduser()


def number_option(options: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A bounded whole number from the options."""
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ModelFileError(f"'{name}' must be a number from {low} to {high}, not {value!r}.")
    return value


def choice_option(options: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`; the first is the default."""
    value = options.get(name)
    if value is None:
        return choices[0]
    if value not in choices:
        raise ModelFileError(f"'{name}' must be one of {', '.join(choices)}, not {value!r}.")
    return str(value)


def embedding_output(session: onnxruntime.InferenceSession) -> tuple[str, Literal[2, 3]]:
    """The output that carries embeddings, and its rank: one vector per input (2) or one per token (3)."""
    outputs = session.get_outputs()
    named = {output.name: output for output in outputs}
    for name in ("sentence_embedding", "text_embeds", "image_embeds"):
        if name in named:
            return name, 2
    first = outputs[0]
    rank = len(first.shape or ())
    if rank == 2:
        return first.name, 2
    if rank == 3:
        return first.name, 3
    raise ModelFileError(f"The model's output {first.name!r} has {rank} axes; an embedding has 2, token states 3.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
