"""What a content filter adds to the mix: each form of `bench.mix`, whole and streamed, with `Microsoft.Nill` and with a
policy.

python -m bench.mix_filter [--filter Microsoft.DefaultV2] [--only NAME] [--calls 25] [--rounds 4]

Two servers that differ in the policy take the same calls in turn, one after the other. The model repeats the prompt, so
that answers are as new as prompts are (but for those to tools and schemas). The text is new in each call; of the plain
form, there are rows with one that stays. Processor time is that of all processes: the gateway, and the worker
that classifies.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import batched, machines, servers
from bench.mix_forms import FORMS, NO_FILTER, PLAIN, Form

POLICY: Final = "Microsoft.DefaultV2"
CALLS, ROUNDS, WARMING = 25, 4, 3
NEW, SAME = "new text", "the same text"
FIGURES: Final = ("cpu_ms", "first_byte_ms", "whole_ms", "calls_per_second")
SCRIPTED: Final = "{type: scripted}"
Row = tuple[Form, bool, str]
"""A form, whether it is streamed, and its text."""


@dataclass
class Spent:
    """What the calls of one cell took: seconds, one of each for a call, and processor time for all."""

    cpu: float = 0.0
    firsts: list[float] = field(default_factory=list)
    wholes: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Milliseconds: processor time on average, the waits by their medians."""
        found = (self.cpu / len(self.wholes), median(self.firsts), median(self.wholes))
        per_second = len(self.wholes) / sum(self.wholes)
        return dict(zip(FIGURES, [*(round(1000 * each, 2) for each in found), round(per_second, 1)], strict=True))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.mix_filter", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--filter", default=POLICY, help="the policy")
    parser.add_argument("--only", default="", help="forms whose name has this in it")
    parser.add_argument("--calls", type=int, default=CALLS, help="of each row, in each round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    wanted = parser.parse_args()
    forms = [form for form in FORMS if wanted.only in form.name]
    rows = measured(wanted.filter, forms, wanted.calls, wanted.rounds)
    print(table(wanted.filter, rows))


def rows_of(forms: Sequence[Form]) -> list[Row]:
    """Of the forms that need no other server."""
    found = [(form, stream, NEW) for form in forms if form.store == "memory" for stream in form.kinds]
    return [*found, *((PLAIN, stream, SAME) for stream in PLAIN.kinds if PLAIN in forms)]


def measured(
    policy: str, forms: Sequence[Form] = FORMS, calls: int = CALLS, rounds: int = ROUNDS
) -> dict[str, dict[str, Any]]:
    """The figures without and with the policy, by row. Raises DidNotStart where the policy cannot be served."""
    spent = [(row, {"without": Spent(), "filtered": Spent()}) for row in rows_of(forms)]
    numbers = itertools.count(1000)
    with ExitStack() as stack:
        named = {"without": NO_FILTER, "filtered": policy}
        served = {name: stack.enter_context(serving(one)) for name, one in named.items()}
        for server, ((form, stream, text), _), _ in itertools.product(served.values(), spent, range(WARMING)):
            server.call(form, next(numbers) if text == NEW else 0, stream)
        for _, ((form, stream, text), of_row) in itertools.product(range(rounds), spent):
            for name, sum_up in of_row.items():
                served[name].time(form, numbers.__next__ if text == NEW else lambda: 0, calls, stream, sum_up)
    return {
        f"{form.name}, {'stream' if stream else 'whole'}, {text}": {name: one.figures() for name, one in of_row.items()}
        for (form, stream, text), of_row in spent
    }


@dataclass(frozen=True)
class Served:
    """A modelport with one policy."""

    process_id: int
    port: int

    def time(self, form: Form, numbers: Callable[[], int], calls: int, stream: bool, spent: Spent) -> None:
        """Adds so many calls."""
        pids = machines.tree(self.process_id)
        before = machines.cpu_seconds(pids)
        for _ in range(calls):
            first, whole = self.call(form, numbers(), stream)
            spent.firsts.append(first)
            spent.wholes.append(whole)
        machines.await_idle(pids)
        spent.cpu += machines.cpu_seconds(pids) - before

    def call(self, form: Form, number: int, stream: bool) -> tuple[float, float]:
        """Seconds until the first byte of the answer's body, and until its end. Raises SystemExit but for a 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        head = {"authorization": f"Bearer {batched.credential_of(form)}", "content-type": "application/json"}
        head |= dict(line.split(": ", 1) for line in form.headers)
        began = time.perf_counter()
        connection.request("POST", form.path, body(form, number, stream), head)
        answer = connection.getresponse()
        answer.read(1)
        first = time.perf_counter() - began
        said = answer.read()
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"bench: {form.name} was answered {answer.status}: {said[:200]!r}")
        return first, time.perf_counter() - began


def body(form: Form, number: int, stream: bool) -> bytes:
    """The form's request; the number makes each sentence another text."""
    return form.body(stream).replace("fünf".encode(), str(number).encode())


@contextmanager
def serving(policy: str) -> Iterator[Served]:
    """Raises DidNotStart."""
    port = servers.free_port()
    with tempfile.TemporaryDirectory(prefix="modelport-mix-filter-") as name:
        folder = Path(name)
        config = folder / "modelport.yaml"
        config.write_text(batched.config_of(port, folder, (SCRIPTED, SCRIPTED), "", policy))
        command = [sys.executable, "-m", "bench.switches", "ledger", "--", "serve", "--config", str(config)]
        with servers.serving(command, port, folder, environment={"BENCH_TEAM_KEY": batched.TEAM_KEY}) as process:
            yield Served(process.pid, port)


def table(policy: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """As it is printed: each figure without and with the policy."""
    heads = [f"{figure.removesuffix('_ms').replace('_', ' ')}{' ms' * figure.endswith('_ms')}" for figure in FIGURES]
    lines = [f"with {policy} (before it: with {NO_FILTER})", f"{'':<50}" + "".join(f"{head:>20}" for head in heads)]
    for name, found in rows.items():
        cells = [f"{found['without'][figure]:.2f} → {found['filtered'][figure]:.2f}" for figure in FIGURES]
        lines.append(f"{name:<50}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
