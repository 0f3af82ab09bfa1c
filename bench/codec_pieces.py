"""What the codecs cost: for every form of the mix, reading the request, encoding it for an upstream, decoding a whole
answer (as events, and in one step where that is possible) and writing it, each counted alone, in a loop.

python -m bench.codec_pieces [--python PATH] [--times 400] [--name NAME]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from bench import batches, counters, interpreters, pieces, written
from bench.mix_forms import FORMS, Form
from modelport.core.answers import AnswerHead
from modelport.core.catalog import Target
from modelport.core.operations import Operation
from modelport.dialects.body import JSON_CONTAINERS, JSON_DEPTH
from modelport.gateway.fold import fold_of
from modelport.providers.openai_compatible import Settings
from modelport.providers.openai_compatible import open as open_provider
from modelport.surfaces.openai_speech import PATHS, SPEECHES

TARGET: Final = Target("mock", "bench")
HEAD: Final = AnswerHead("chatcmpl-0123456789abcdef", 1_700_000_000, "bench")


def main() -> None:
    """Counts, prints a table, and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.codec_pieces", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--python", help="the interpreter that runs modelport; gets an environment of its own")
    parser.add_argument("--times", type=int, default=400, help="how often each piece is done")
    parser.add_argument("--name", help="write bench/results/NAME.json instead of a local file")
    wanted = parser.parse_args()
    python = interpreters.prepared(wanted.python)
    found: dict[str, dict[str, int]] = {}
    for piece, count in pieces.counted(python, wanted.times, "bench.codec_pieces").items():
        form, _, step = piece.partition(": ")
        found.setdefault(form, {})[step] = count
    for form, steps in found.items():
        counts = "  ".join(f"{step} {count:,}" for step, count in steps.items())
        print(f"{form:32}  {counts}")
    content = {"measured_python": interpreters.described(python), "counted_by": counters.mechanism(), "forms": found}
    written.write("codec_pieces", wanted.name, content)


def steps_of(form: Form) -> dict[str, Callable[[], object]]:
    """The four steps of one call in this form."""
    operations = {path: operation for operation, path in PATHS.items()}
    operation: Operation = operations[form.path.removeprefix("/v1")]
    speech, body = SPEECHES[operation], form.body()
    codec = open_provider(Settings(base_url="http://127.0.0.1:9/v1"), "mock")
    request = speech.reader(JSON_CONTAINERS, JSON_DEPTH)(body)
    reply = batches.WHOLE if form.is_chat else batches.VECTORS

    def decode() -> object:
        decoder = codec.decoder(request)
        return [*decoder.feed(reply), *decoder.end()]

    fold = fold_of(request)
    decoder = codec.decoder(request)
    fold.feed([*decoder.feed(reply), *decoder.end()])
    return {
        "read": partial(speech.reader(JSON_CONTAINERS, JSON_DEPTH), body),
        "encode": partial(codec.encode, request, TARGET),
        "decode": decode,
        "(in one step)": partial(codec.whole_answer, reply),
        "write": partial(speech.whole, HEAD, request, fold.end(), "field"),
    }


def inside() -> None:
    """The other end: does what it is asked for."""
    bodies: set[bytes] = set()
    found: dict[str, Callable[[], object]] = {pieces.NOTHING: lambda: None}
    for form in FORMS:
        if form.body() not in bodies:
            bodies.add(form.body())
            found |= {f"{form.name}: {step}": work for step, work in steps_of(form).items()}
    pieces.follow(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside()
    else:
        main()
