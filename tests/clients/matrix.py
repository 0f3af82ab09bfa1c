"""Runs every genuine client against running servers and writes CONFORMANCE.md.

    python -m tests.clients.matrix [--only NAME ...] [--prepare] [--own FILE]

Makes one environment per client, starts the servers once, runs the project's own client tests and then each client's
tests in its own environment, and writes one row per acceptance check. Exits with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .deployments import SERVERS
from .environments import CLIENTS, HERE, LARGE_CLIENTS, ROOT, CannotPrepare, Client, prepare
from .report import render
from .serving import NO_WEIGHTS, Server, pulled_models, running

OWN_TESTS = "tests/clients"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.clients.matrix", description=(__doc__ or "").split("\n")[0])
    names = ["main", *(client.name for client in [*CLIENTS, *LARGE_CLIENTS])]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these alone; no report is written")
    parser.add_argument("--prepare", action="store_true", help="make the environments and stop")
    parser.add_argument(
        "--own",
        type=Path,
        metavar="FILE",
        help="what the project's own tests have written (MODELPORT_TEST_CHECKS_JSON)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    named = [client for client in [*CLIENTS, *LARGE_CLIENTS] if client.name in (options.only or ())]
    chosen = named if options.only else CLIENTS
    try:
        prepare_all(chosen)
    except CannotPrepare as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    if options.prepare:
        return 0
    if needs_models(chosen, options.only) and not pulled_models().is_dir():
        print(f"error: {NO_WEIGHTS}", file=sys.stderr)
        return 2
    with_own = not options.only or "main" in options.only
    own, own_failed = run_own(options.own) if with_own else ([], [])
    outcomes, failed = run_clients(chosen)
    outcomes, failed = own + outcomes, own_failed + failed
    if not options.only:
        (ROOT / "CONFORMANCE.md").write_text(render(outcomes), encoding="utf-8")
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def needs_models(chosen: Sequence[Client], only: Sequence[str] | None) -> bool:
    """Whether a server of these clients, or the project's own tests, need pulled weights."""
    return not only or "main" in only or any(SERVERS[name].needs_models for client in chosen for name in client.servers)


def prepare_all(chosen: Sequence[Client]) -> None:
    """Make what is missing, two at a time: one downloads while the other unpacks. Raises CannotPrepare."""

    def one(client: Client) -> None:
        began = time.monotonic()
        if prepare(client):
            print(f"{client.name}: environment made in {time.monotonic() - began:.0f} s", flush=True)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for made in [pool.submit(one, client) for client in chosen]:
            made.result()


def run_own(written: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """What each check came to in the project's own environment, and whether its suite failed. `written`: it has run."""
    if written is not None:
        outcomes = read(written)
        has_failed = not outcomes or any(row["outcome"] == "failed" for row in outcomes)
        return outcomes, ["main"] if has_failed else []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "main.json"
        # These start servers of their own: some of them stop a server or look into its files.
        done = suite([sys.executable, "-m", "pytest", "-q", "-m", "check", OWN_TESTS], {}, target)
        return read(target), ["main"] if done.returncode else []


def run_clients(chosen: Sequence[Client]) -> tuple[list[dict[str, Any]], list[str]]:
    """Run the clients' suites, two at a time; what each check came to, and the suites that failed."""
    outcomes: list[dict[str, Any]] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(running(described.configuration, tls=described.tls, keyless=described.keyless))
            for name, described in SERVERS.items()
            if any(name in client.servers for client in chosen)
        }

        def one(client: Client) -> tuple[int, str, list[dict[str, Any]]]:
            began = time.monotonic()
            target = Path(folder) / f"{client.name}.json"
            done = suite(command_of(client), environment_of(client, servers), target, stdout=subprocess.PIPE)
            return done.returncode, f"{done.stdout}{client.name}: {time.monotonic() - began:.0f} s", read(target)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for client, (status, said, rows) in zip(chosen, pool.map(one, chosen), strict=True):
                print(said, flush=True)
                outcomes += rows
                if status:
                    failed.append(client.name)
    return outcomes, failed


def command_of(client: Client) -> list[str]:
    # The settings of the project's own tests (warnings are errors, an asyncio plugin) are not the clients'.
    options = ["-c", str(HERE / "apart" / "pytest.ini"), "--rootdir", str(ROOT), "--confcutdir", str(HERE)]
    return [str(client.interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider", *options,
            str(HERE / "apart" / client.tests)]  # fmt: skip


def environment_of(client: Client, servers: dict[str, Server]) -> dict[str, str]:
    described = {
        name: {key: str(value) if isinstance(value, Path) else value for key, value in asdict(server).items()}
        for name, server in servers.items()
    }
    authority = str(servers["secure" if "secure" in client.servers else "keyless"].ca_file)
    return {
        "MODELPORT_TEST_CLIENT": client.name,
        "MODELPORT_TEST_SERVERS": json.dumps(described),
        # Where each library looks for authorities: requests, then aiohttp and httpx.
        "REQUESTS_CA_BUNDLE": authority,
        "SSL_CERT_FILE": authority,
        # Clients that would otherwise ask the internet for price lists or report their use.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "NO_PROXY": "*",
    }


def suite(
    command: list[str], environment: dict[str, str], target: Path, stdout: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it, in the environment of this process with these changes."""
    whole = {**os.environ, **environment, "MODELPORT_TEST_CHECKS_JSON": str(target)}
    errors = None if stdout is None else subprocess.STDOUT
    return subprocess.run(command, cwd=ROOT, env=whole, stdout=stdout, stderr=errors, text=True)


def read(target: Path) -> list[dict[str, Any]]:
    if not target.is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(target.read_text(encoding="utf-8"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
