"""Starts llama.cpp's own server in this process, reachable by this process alone, and knows the model it loaded."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from modelport.engine.backend import Options
from modelport.engine.backends.llama_cpp.gguf import read_metadata
from modelport.engine.local_http import LocalHttp

_PRINTED_ERROR: Final = re.compile(r"^\S+ E (.{1,300})", re.MULTILINE)
"""The first line of level "error": time, level, function, text."""
# What the field's servers use when a request says nothing; every one of them can be given in a request or as an option.
_SAMPLING_DEFAULTS: Mapping[str, float] = {
    "temperature": 0.7,
    "top_p": 0.95,
    "top_k": 40,
    "min_p": 0.05,
    "repeat_penalty": 1.0,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The backend's options, checked."""

    weights: Path
    name: str
    slots: int = 4
    context: int = 8192
    queue: int = 64
    threads: int = 0
    batch: int = 128
    max_choices: int = 16
    max_beams: int = 8
    default_max_tokens: int | None = None
    tools: str | None = None
    directory: str | None = None  # where the engine's socket goes
    sampling: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, options: Options) -> Settings:
        """Settings from the worker's options; ValueError names what is out of bounds."""
        weights = Path(str(options["weights"]))
        numbers = {
            key: int(options[key])
            for key in ("slots", "context", "queue", "batch", "max_choices", "max_beams", "default_max_tokens")
            if options.get(key) is not None
        }
        threads = options.get("threads") or "auto"
        sampling = {**_SAMPLING_DEFAULTS, **(options.get("sampling") or {})}
        settings = cls(
            weights=weights,
            name=str(options.get("name") or weights.stem),
            threads=usable_cores() if threads == "auto" else int(threads),
            tools=options.get("tools"),
            directory=options.get("directory"),
            sampling=sampling,
            **numbers,
        )
        if not (1 <= settings.slots <= 64 and 0 <= settings.queue <= 65536 and 1 <= settings.threads <= 1024):
            raise ValueError("slots (1-64), queue (0-65536) or threads (1-1024) is out of bounds")
        if settings.context // settings.slots < 256:
            raise ValueError("context is shared by the slots and leaves less than 256 tokens for each")
        if settings.tools not in (None, "auto", "forced", "none"):
            raise ValueError("tools must be auto, forced or none")
        return settings


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Engine:
    """The running server: where to reach it, what the file says, and what the server says of the model."""

    native: LocalHttp
    settings: Settings
    metadata: Mapping[str, Any]
    template: str
    context_per_slot: int
    vocabulary_size: int
    server: object  # kept alive: the server ends with it
    directory: Path

    def close(self) -> None:
        """Removes the socket; the server itself ends with the process."""
        shutil.rmtree(self.directory, ignore_errors=True)


async def start_engine(settings: Settings) -> Engine:
    """Loads the weights and returns when the model can answer. Raises UnreadableWeightsError or RuntimeError."""
    metadata = await asyncio.to_thread(read_metadata, settings.weights)
    directory = Path(tempfile.mkdtemp(prefix="engine-", dir=settings.directory))
    native = LocalHttp(directory / "engine.sock", secrets.token_urlsafe(32))
    try:
        server = await asyncio.to_thread(_load, settings, native, metadata)
        properties = await native.call("GET", "/props")
        models = await native.call("GET", "/v1/models")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return Engine(
        native=native,
        settings=settings,
        metadata=metadata,
        template=str(properties.get("chat_template") or ""),
        context_per_slot=int(properties["default_generation_settings"]["n_ctx"]),
        vocabulary_size=int(models["data"][0]["meta"]["n_vocab"]),
        server=server,
        directory=directory,
    )


def _load(settings: Settings, native: LocalHttp, metadata: Mapping[str, Any]) -> object:
    # Idle OpenMP threads spin by default, which costs a factor of ten as soon as anything else wants a core. The
    # library reads this once, when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(settings.weights)
    parameters.n_ctx = min(settings.context, settings.slots * _trained_context(metadata))
    parameters.n_parallel = settings.slots
    parameters.n_batch = parameters.n_ubatch = settings.batch
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings.threads
    parameters.hostnames = [str(native.socket_path)]
    parameters.api_keys = [native.secret]
    parameters.n_threads_http = 2 * settings.slots + 4
    parameters.cache_ram_mib = 256
    parameters.prefill_assistant = False  # an answer is a new turn, also after one of the assistant's own
    parameters.verbosity = 1  # errors, which say why it cannot be loaded; once it is, nothing is printed any more
    parameters.ui = False
    with tempfile.TemporaryFile() as printed:
        try:
            with _standard_error_in(printed.fileno()):
                return xllamacpp.Server(parameters)
        except RuntimeError as error:
            # The exception says only that there was one; the library prints which.
            printed.seek(0)
            found = _PRINTED_ERROR.search(printed.read().decode("utf-8", "replace"))
            raise RuntimeError(f"llama.cpp cannot load it: {found[1]}" if found else str(error)) from error


@contextmanager
def _standard_error_in(descriptor: int) -> Iterator[None]:
    """Sends what native code prints there, until the end of the block."""
    before = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _trained_context(metadata: Mapping[str, Any]) -> int:
    architecture = metadata.get("general.architecture", "")
    return int(metadata.get(f"{architecture}.context_length") or 1 << 20)
