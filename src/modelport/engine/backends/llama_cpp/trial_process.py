"""The process that compiles grammars before the engine may: `python -m …trial_process WEIGHTS`.

It reads one JSON line for each trial, a grammar and those of its costly parts, and answers with one line: null, or what
is wrong. Each trial runs in a fork with bounds of time and memory, so that a grammar can end nothing but its own trial.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Final

from modelport.engine.backends.llama_cpp.gguf import read_metadata
from modelport.engine.backends.llama_cpp.llguidance import GrammarCompiler, GrammarError, token_bytes

CPU_SECONDS: Final = 0.5
WALL_SECONDS: Final = 20.0  # where the machine is busy with other things
MEMORY_BYTES: Final = 256 * 1024 * 1024
IDLE_SECONDS: Final = 600
_WALKS: Final = (48, 32, 48, 32)  # tokens of each walk through the first grammar
_SHORT_WALK: Final = 16  # through each of the others
_REASONS: Final = {
    "items; max is": "it has too many choices at one place (optional properties, anyOf …)",
    "coerce_one_of": "the alternatives of its 'oneOf' overlap; use 'anyOf'",
}
_PR_SET_PDEATHSIG: Final = 1
_SLOW: Final = f"the engine needs more than {CPU_SECONDS:g} s or {MEMORY_BYTES >> 20} MiB for its grammar; simplify it"


def main(weights: str) -> None:
    """Serves until standard input ends, or nothing has come for a while."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    metadata = read_metadata(Path(weights))
    compiler = GrammarCompiler(token_bytes(metadata), int(metadata.get("tokenizer.ggml.eos_token_id") or 0))
    while select.select([sys.stdin], [], [], IDLE_SECONDS)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        fault = try_in_fork(compiler, json.loads(line))
        sys.stdout.write(json.dumps(fault) + "\n")
        sys.stdout.flush()


def try_in_fork(compiler: GrammarCompiler, grammars: list[str]) -> str | None:
    """What is wrong with one of the grammars; None if the engine can follow them all at a bearable cost."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _bound()
        os.write(write_end, _try_all(compiler, grammars).encode()[:4000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        fault = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return _SLOW if status else fault or None


def _bound() -> None:
    """The kernel ends the fork when its time is over; with no memory left the library ends it."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, size + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the library's last words may quote the grammar
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)


def _try_all(compiler: GrammarCompiler, grammars: list[str]) -> str:
    try:
        for seed, steps in enumerate(_WALKS):
            compiler.walk(grammars[0], steps, compiler.draw(seed))
        for grammar in grammars[1:]:
            compiler.walk(grammar, _SHORT_WALK, compiler.draw(1))
    except GrammarError as error:
        return _reason(str(error))
    except MemoryError:
        return _SLOW
    return ""


def _reason(error: str) -> str:
    """The first line of the compiler's reason; the lines after it quote the grammar."""
    line = error.strip().splitlines()[0] if error.strip() else "no reason given"
    for words in ("failed to compile JSON schema: ", "Parser Error: ", "lexer error: "):
        line = line.partition(words)[2] or line
    for words, reason in _REASONS.items():
        if words in line:
            return reason
    return f"the engine cannot follow it ({line[:200].rstrip('. ')})"


if __name__ == "__main__":
    main(sys.argv[1])
