"""How long judging by blocklists holds the event loop: the longest turn, for lists and texts that mean harm to it.

python -m bench.safety.held [--repeats 5]

Of each list and text: milliseconds of the loop's own processor time in its longest turn (the most of some repeats, the
first with cold tables), and of its longest wait, which counts the lock that a thread holds (the least of the repeats,
because other programs' time is in it).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Coroutine
from typing import Any, Final

from bench.safety.rules import CATEGORIES, LISTS, judge, settled, text
from modelport.core.ports.safety import BlocklistEntry, FilterParts, Question
from modelport.core.safety import Source
from modelport.safety.rules import open_filter

CHARACTERS: Final = 8_192
"""Of a text that is judged."""
CHUNK: Final = 500
"""Characters of a stream's piece."""
DICE: Final = random.Random(3)
HOSTILE: Final = ("(a+)+x", "(a|aa)+y", "(.{0,50}a){20}z", r"(\w+\s?){1,50}!{3}")
ENTRIES: Final[dict[str, tuple[BlocklistEntry, ...]]] = {
    "1,000 texts": tuple(BlocklistEntry(f"t{n}", exact=f"word{n} other{n}") for n in range(1000)),
    "short texts": tuple(BlocklistEntry(word, exact=word) for word in ("bot", "ab", "kill")),
    "texts alike": tuple(BlocklistEntry(f"a{n}", exact="ab " * n) for n in range(1, 40)),
    "long texts": tuple(BlocklistEntry(f"l{n}", exact="ab" * (470 + n)) for n in range(30)),
    "expressions": tuple(BlocklistEntry(pattern, regex=pattern) for pattern in HOSTILE),
}
TEXTS: Final = {
    "prose": text(CHARACTERS),
    "Cyrillic": text(CHARACTERS, "аеорсх"),
    "look-alikes": "вот " * (CHARACTERS // 4),
    "a, b, space": "".join(DICE.choices("ab ", k=CHARACTERS)),
    "ab ab": "ab " * (CHARACTERS // 3),
    "masked": "wo*d1 k_ll " * (CHARACTERS // 11),
    "drawn out": "kiiill aaab " * (CHARACTERS // 12),
    "new letters": "".join(map(chr, range(0x20, 0x20 + CHARACTERS))),
}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.safety.held", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{'list':<14}{'text':<14}{'judged: CPU':>14}{'wait':>8}{'streamed: CPU':>16}{'wait':>8}   ms")
    worst = 0.0
    gc.disable()
    for name, entries in ENTRIES.items():
        rules = open_filter(FilterParts(blocklists={"house": entries}))
        for kind, said in TEXTS.items():
            cells: list[float] = []
            for work in (judge, streamed):
                turns = [asyncio.run(longest_turn(work(rules, said))) for _ in range(repeats)]
                cells += (max(cpu for cpu, _ in turns), min(wait for _, wait in turns))
            worst = max(worst, cells[0], cells[2])
            print(f"{name:<14}{kind:<14}{cells[0]:>14.2f}{cells[1]:>8.2f}{cells[2]:>16.2f}{cells[3]:>8.2f}", flush=True)
    print(f"the loop's longest turn: {worst:.2f} ms of its processor time")


async def streamed(rules: Any, said: str) -> None:
    """The same in pieces."""
    stream = rules.stream(Question("", Source.COMPLETION, CATEGORIES, blocklists=LISTS), 1000)
    for start in range(0, len(said), CHUNK):
        await settled(stream.feed(said[start : start + CHUNK]))
        await asyncio.sleep(0)
    await settled(stream.end())


async def longest_turn(work: Coroutine[Any, Any, None]) -> tuple[float, float]:
    """Milliseconds of processor time and of the clock that the loop's longest turn takes while this is done."""
    task = asyncio.create_task(work)
    cpu = wait = 0.0
    while not task.done():
        began = (time.thread_time(), time.perf_counter())
        await asyncio.sleep(0)
        cpu, wait = max(cpu, time.thread_time() - began[0]), max(wait, time.perf_counter() - began[1])
    await task
    return 1e3 * cpu, 1e3 * wait


if __name__ == "__main__":
    main()
