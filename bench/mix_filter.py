"""What a content filter adds to the mix's plain call: the same requests with `Microsoft.Nill` and with the policy,
whole and streamed, with a text that is new in each call and with one that stays.

python -m bench.mix_filter [--filter Microsoft.DefaultV2] [--calls 20] [--rounds 4] [--name NAME]

One call after the other, in rounds that change the policy. The model repeats the prompt, so that answers are as new as
prompts are. Processor time is that of all processes: the gateway, and the worker that classifies.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import machines, mix_forms, servers, written

POLICY: Final = "Microsoft.DefaultV2"
NONE: Final = "Microsoft.Nill"
CALLS, ROUNDS, WARMING = 20, 4, 3
TEXTS: Final = ("new text each call", "the same text")
FIGURES: Final = ("cpu_ms", "first_byte_ms", "whole_ms", "calls_per_second")
CONFIG: Final = """
server: {{port: {port}, data_dir: "{folder}/data"}}
telemetry: {{log_level: warning}}
providers: {{scripted: {{type: scripted}}}}
deployments:
  without: {{model: {{name: any}}, provider: scripted, limits: {limits}, content_filter: {none}}}
  filtered: {{model: {{name: any}}, provider: scripted, limits: {limits}, content_filter: {policy}}}
"""


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
    """Measures, prints, and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.mix_filter", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--filter", default=POLICY, help="the policy")
    parser.add_argument("--calls", type=int, default=CALLS, help="of each row, in each round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--name", help="of the file in bench/results; without it, results/local/mix_filter.json")
    wanted = parser.parse_args()
    rows = measured(wanted.filter, wanted.calls, wanted.rounds)
    print(table(wanted.filter, rows))
    written.write("mix_filter", wanted.name, {"policy": wanted.filter, "rows": rows})


def measured(policy: str, calls: int = CALLS, rounds: int = ROUNDS) -> dict[str, dict[str, Any]]:
    """The figures without and with the policy, by row. Raises DidNotStart where the policy cannot be served."""
    cells = list(itertools.product((False, True), TEXTS))
    spent = {cell: {"without": Spent(), "filtered": Spent()} for cell in cells}
    numbers = itertools.count(1000)
    with serving(policy) as server:
        for deployment in ("without", "filtered"):
            for _ in range(WARMING):
                server.call(deployment, 0, stream=True)
        for _ in range(rounds):
            for (stream, text), of_cell in spent.items():
                for deployment, sum_up in of_cell.items():
                    texts = (lambda: next(numbers)) if text == TEXTS[0] else (lambda: 0)
                    server.time(deployment, texts, calls, stream, sum_up)
    return {
        f"plain, {'stream' if stream else 'whole'}, {text}": {name: one.figures() for name, one in of_cell.items()}
        for (stream, text), of_cell in spent.items()
    }


@dataclass(frozen=True)
class Served:
    """A modelport with both deployments."""

    process_id: int
    port: int

    def time(self, deployment: str, numbers: Callable[[], int], calls: int, stream: bool, spent: Spent) -> None:
        """Adds so many calls."""
        pids = machines.tree(self.process_id)
        before = machines.cpu_seconds(pids)
        for _ in range(calls):
            first, whole = self.call(deployment, numbers(), stream)
            spent.firsts.append(first)
            spent.wholes.append(whole)
        machines.await_idle(pids)
        spent.cpu += machines.cpu_seconds(pids) - before

    def call(self, deployment: str, number: int, stream: bool) -> tuple[float, float]:
        """Seconds until the first byte of the answer's body, and until its end. Raises SystemExit but for a 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        head = {"authorization": f"Bearer {servers.KEY}", "content-type": "application/json"}
        began = time.perf_counter()
        connection.request("POST", mix_forms.PLAIN.path, body(deployment, number, stream), head)
        answer = connection.getresponse()
        answer.read(1)
        first = time.perf_counter() - began
        said = answer.read()
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"bench: {deployment} answered {answer.status}: {said[:200]!r}")
        return first, time.perf_counter() - began


def body(deployment: str, number: int, stream: bool) -> bytes:
    """The mix's plain request; the number makes each sentence another text."""
    fields = json.loads(mix_forms.PLAIN.body(stream))
    question = mix_forms.QUESTION.replace("fünf", str(number))
    fields |= {"model": deployment, "messages": [fields["messages"][0], {"role": "user", "content": question}]}
    return json.dumps(fields, ensure_ascii=False).encode()


@contextmanager
def serving(policy: str) -> Iterator[Served]:
    """Raises DidNotStart."""
    port = servers.free_port()
    with tempfile.TemporaryDirectory(prefix="modelport-mix-filter-") as name:
        folder = Path(name)
        config, limits = folder / "modelport.yaml", servers.GENEROUS
        config.write_text(CONFIG.format(port=port, folder=folder, limits=limits, none=NONE, policy=policy))
        command = [sys.executable, "-m", "bench.switches", "ledger", "--", "serve", "--config", str(config)]
        with servers.serving(command, port, folder) as process:
            yield Served(process.pid, port)


def table(policy: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """As it is printed: each figure without and with the policy."""
    heads = [f"{figure.removesuffix('_ms').replace('_', ' ')}{' ms' * figure.endswith('_ms')}" for figure in FIGURES]
    lines = [f"with {policy} (before it: with {NONE})", f"{'':<40}" + "".join(f"{head:>20}" for head in heads)]
    for name, found in rows.items():
        cells = [f"{found['without'][figure]:.2f} → {found['filtered'][figure]:.2f}" for figure in FIGURES]
        lines.append(f"{name:<40}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
