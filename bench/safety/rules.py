"""What the rules filter costs: microseconds of CPU per KB of text, and per piece of a stream.

python -m bench.safety.rules
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from modelport.core.ports.safety import BlocklistEntry, FilterParts, Question
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Source
from modelport.safety.rules import open_filter
from modelport.safety.rules.filter import RulesFilter

WORDS = "the committee reviewed annual reports and found that revenue grew steadily over past years while costs fell"
CATEGORIES = frozenset({Category.CUSTOM_BLOCKLISTS})
LISTS = frozenset({"house"})
PIECE = 4
"""Characters of a stream's piece: a token."""
ROUNDS, REPEATS = 200, 7


def entries(literals: int, regexes: int) -> tuple[BlocklistEntry, ...]:
    """Made of random words, which no text here has."""
    dice = random.Random(1)

    def word() -> str:
        return "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(5, 12)))

    texts = [BlocklistEntry(f"t{number}", exact=f"{word()} {word()}") for number in range(literals)]
    patterns = [BlocklistEntry(f"r{number}", regex=rf"{word()}-\d{{3}}") for number in range(regexes)]
    return (*texts, *patterns)


def text(characters: int, alphabet: str = "") -> str:
    """Prose of these words; `alphabet`: letters that replace theirs."""
    dice = random.Random(2)
    words = " ".join(dice.choices(WORDS.split(), k=characters))[:characters]
    return words.translate(str.maketrans("aeopcx", alphabet)) if alphabet else words


def microseconds(work: Callable[[], Awaitable[None]], rounds: int = ROUNDS) -> float:
    """CPU time of one call, of all threads: the least of some repeats."""

    async def repeated() -> float:
        began = time.process_time()
        for _ in range(rounds):
            await work()
        return (time.process_time() - began) / rounds

    async def least() -> float:
        return min([await repeated() for _ in range(REPEATS)])

    return asyncio.run(least()) * 1e6


async def judge(rules: RulesFilter, text: str) -> None:
    """All of it."""
    await settled(rules.judge(Question(text, Source.PROMPT, CATEGORIES, blocklists=LISTS)))


async def stream(rules: RulesFilter, pieces: Sequence[str]) -> None:
    """Feeds all of them."""
    found = rules.stream(Question("", Source.COMPLETION, CATEGORIES, blocklists=LISTS), 1000)
    for piece in pieces:
        await settled(found.feed(piece))
    await settled(found.end())


async def settled(outcome: Any) -> None:
    """Waits where that is needed."""
    if isinstance(outcome, NeedsWaiting):
        await outcome.resume()


def main() -> None:
    """Prints a table."""
    print(f"{'entries':<28} {'ASCII KB':>10} {'Cyrillic KB':>12} {'per piece':>10} {'compiled':>10}   µs; ms")
    ascii_kb, other_kb = text(1024), text(1024, "аеорсх")
    pieces = [ascii_kb[start : start + PIECE] for start in range(0, len(ascii_kb), PIECE)]
    for literals, regexes in ((1, 0), (1_000, 0), (10_000, 0), (0, 200), (1_000, 200)):
        listed = entries(literals, regexes)
        began = time.process_time()
        rules = open_filter(FilterParts(blocklists={"house": listed}))
        built = (time.process_time() - began) * 1e3
        judged = [microseconds(partial(judge, rules, one)) for one in (ascii_kb, other_kb)]
        piece = microseconds(partial(stream, rules, pieces), rounds=2) / len(pieces)
        name = f"{literals} texts, {regexes} patterns"
        print(f"{name:<28} {judged[0]:>10.1f} {judged[1]:>12.1f} {piece:>10.1f} {built:>10.1f}")


if __name__ == "__main__":
    main()
