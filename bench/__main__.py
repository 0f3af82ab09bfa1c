"""`python -m bench`: prints tables, writes bench/results/local/<name>.json and .html."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import contenders, interpreters, machines, peers, report, rounds, scenarios, servers, tokens
from bench.contenders import Contender

RESULTS = Path(__file__).parent / "results" / "local"


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a request costs, against a floor.")
    parser.add_argument("--full", action="store_true", help="every scenario (a quarter of an hour)")
    parser.add_argument("--peers", nargs="?", const="all", help="also other gateways, installed on demand; or a,b,c")
    parser.add_argument("--python", help="the interpreter that runs modelport; gets an environment of its own")
    parser.add_argument("--only", help="scenarios whose name or group has this in it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="of each run; 0.6, with --full 1.5")
    parser.add_argument("--no-tokens", action="store_true", help="leave the embedded model out of a full run")
    parser.add_argument("--name", default="bench", help="of the files of results")
    wanted = parser.parse_args()
    wanted.seconds = wanted.seconds or (1.5 if wanted.full else 0.6)
    return wanted


def main() -> None:
    """Measures, prints, writes."""
    wanted = options()
    machines.allow_many_files()
    python = interpreters.prepared(wanted.python)
    found: dict[str, Any] = {
        "machine": machines.described(),
        "python": interpreters.described(python),
        "versions": {},
        "date": time.strftime("%Y-%m-%d"),
        "rounds": wanted.rounds,
        "seconds": wanted.seconds,
        "left_out": {},
        "scenarios": [],
    }
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as name:
        measure(wanted, python, Path(name), found)
    found["tokens"] = tokens.run() if wanted.full and not wanted.no_tokens else None
    if wanted.full and not wanted.no_tokens and found["tokens"] is None:
        found["left_out"]["tokens/s"] = "the weights are not here; `modelport models pull default` gets them"
    print(report.text(found))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{wanted.name}.json").write_text(json.dumps(found, indent=2) + "\n")
    (RESULTS / f"{wanted.name}.html").write_text(report.html(found))
    sys.stderr.write(f"bench: written to bench/results/local/{wanted.name}.json and .html\n")


def measure(wanted: argparse.Namespace, python: Path, folder: Path, found: dict[str, Any]) -> None:
    """Fills in the scenarios."""
    core, load_core = machines.cores()
    with servers.upstream(folder / "upstream", load_core) as above:
        where = rounds.Range(above, folder, core, load_core, wanted.seconds, wanted.rounds)
        with entered(wanted, python, where, found) as everybody:
            if wanted.full and chosen("memory silent streams", wanted.only):
                tell("silent streams")
                found["scenarios"].append(rounds.idle_streams(where, everybody))
            for scenario in scenarios.FULL if wanted.full or wanted.only else scenarios.SHORT:
                if chosen(f"{scenario.group} {scenario.name}", wanted.only):
                    tell(scenario.name)
                    result = rounds.measured(where, scenario, everybody)
                    found["scenarios"] += [result] if result is not None else []
        if (wanted.full or wanted.only) and chosen("features", wanted.only):
            tell("features")
            with contenders.features(above, folder, core, python) as variants:
                found["scenarios"].append(rounds.prices(where, scenarios.FEATURES, variants))


def chosen(words: str, only: str | None) -> bool:
    """Whether --only lets this through."""
    return only is None or only.lower() in words.lower()


def tell(what: str) -> None:
    """Progress, for who waits."""
    sys.stderr.write(f"bench: {what}\n")


@contextmanager
def entered(
    wanted: argparse.Namespace, python: Path, where: rounds.Range, found: dict[str, Any]
) -> Iterator[list[Contender]]:
    """Everybody who is measured, started at once; idle when it is not their turn."""
    above, folder, core = where.above, where.folder, where.measured_core
    starts: list[tuple[str, Callable[[], AbstractContextManager[Contender]]]] = [
        (contenders.FLOOR, partial(contenders.floor, above, folder / "nginx", core)),
        (contenders.OURS, partial(contenders.ours, above, folder / "modelport", core, python)),
        (contenders.RELAY, partial(contenders.relay, above, folder / "relay", core, python)),
    ]
    for peer in peers.named(wanted.peers) if wanted.peers else ():
        starts.append((peer.name, partial(peers.running, peer, above, folder / peer.name, core)))
    with ExitStack() as stack:
        everybody = [contenders.direct(above)]
        for name, start in starts:
            tell(f"starting {name}")
            try:
                everybody.append(stack.enter_context(start()))
            except servers.DidNotStart as reason:
                if name in (contenders.FLOOR, contenders.OURS, contenders.RELAY):
                    raise SystemExit(f"bench: {name} does not start: {reason}") from None
                found["left_out"][name] = str(reason)
        found["versions"] |= {"nginx": nginx_version()}
        found["versions"] |= {one.name: one.facts["version"] for one in everybody if "version" in one.facts}
        yield everybody


def nginx_version() -> str:
    """What `nginx -v` says."""
    answer = subprocess.run([servers.nginx_program(), "-v"], capture_output=True, text=True, check=True)
    return answer.stderr.partition("/")[2].strip()


if platform.system() != "Linux":
    raise SystemExit("bench: measures on Linux only; it reads /proc")
main()
