"""The mix: what a call costs in the forms that programs of a team send, whole and streamed.

python -m bench.mix [--name mix] [--no-instructions] [--no-load] [--only NAME] [--rounds 5] [--seconds 0.6]
                    [--filter Microsoft.DefaultV2]

Of each form: instructions (in fixed batches, see `bench.batched`); files and functions of the package that one call
passes after the same call has been made before; requests a second beside nginx and rolter with the same body. Then
what a content filter adds to each (`bench.mix_filter`).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import batched, contenders, machines, mix_filter, mix_forms, peers, rounds, scenarios, servers, written
from bench.contenders import Contender, Door
from bench.mix_forms import FORMS, Form
from bench.safety import page

CONNECTIONS = 64
ROLTER = "rolter"
TRACED_CALLS = 20


@dataclass(frozen=True)
class MixScenario(scenarios.Scenario):
    """A form as a load."""

    form: Form = mix_forms.PLAIN

    def body(self, model: str) -> bytes:
        """The same for every contender, but for the model's name."""
        del model
        return self.form.body(self.streamed)


def main() -> None:
    """Measures, prints, and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.mix", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="forms whose name has this in it")
    parser.add_argument("--no-instructions", action="store_true")
    parser.add_argument("--no-load", action="store_true")
    parser.add_argument("--filter", default=mix_filter.POLICY, help="the policy that the forms are measured with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--name", help="of the file in bench/results; without it, results/local/mix.json")
    wanted = parser.parse_args()
    machines.allow_many_files()
    forms = [form for form in FORMS if wanted.only in form.name]
    left_out: dict[str, str] = {}
    rows: dict[str, dict[str, Any]] = {form.name: {} for form in forms}
    with tempfile.TemporaryDirectory(prefix="modelport-mix-") as name:
        for store in dict.fromkeys(form.store for form in forms):
            of_store = [form for form in forms if form.store == store]
            try:
                trace(of_store, Path(name) / f"traced-{store}", store, rows)
                if not wanted.no_instructions:
                    count(of_store, Path(name) / f"counted-{store}", store, rows)
            except servers.DidNotStart as reason:
                left_out[f"{store} quota"] = str(reason)
        if not wanted.no_load:
            load(forms, Path(name), wanted.rounds, wanted.seconds, rows, left_out)
    print(table(rows))
    filtered = {}
    if not wanted.no_load:
        try:
            filtered = mix_filter.measured(wanted.filter, forms)
            print(mix_filter.table(wanted.filter, filtered))
        except servers.DidNotStart as reason:
            left_out[wanted.filter] = str(reason)
    for what, why in left_out.items():
        print(f"Left out: {what}: {why}")
    written.write("mix", wanted.name, {"rows": rows, "filtered": {wanted.filter: filtered}, "left_out": left_out})
    if filtered and f"{wanted.name}.json" == page.MIX:
        page.write_page()


def word(stream: bool) -> str:
    """The name of a kind in the results."""
    return "stream" if stream else "whole"


def trace(forms: Sequence[Form], folder: Path, store: str, rows: dict[str, dict[str, Any]]) -> None:
    """Files and functions."""
    output = folder / "passed"
    module = ("-m", "bench.traced", str(output))
    with batched.driven(Path(sys.executable), folder, store=store, module=module, counted=False) as server:
        for form in forms:
            for stream in form.kinds:
                lines = passed_by(server, form, stream, output)
                files = {line.split(" ")[0] for line in lines}
                rows[form.name][word(stream)] = {"files": len(files), "functions": len(lines)}


def passed_by(server: batched.Driven, form: Form, stream: bool, output: Path) -> list[str]:
    """The functions that one call passes, after calls of the same form."""
    request, answer = batched.request_of(form, stream), batched.answer_of(form, stream)
    server.driver.connect(server.process_id, server.port, 1)
    server.driver.run(request, answer, TRACED_CALLS)
    time.sleep(0.2)
    output.unlink(missing_ok=True)
    os.kill(server.process_id, signal.SIGUSR1)
    time.sleep(0.2)
    server.driver.run(request, answer, 1)
    time.sleep(0.05)
    os.kill(server.process_id, signal.SIGUSR2)
    deadline = time.monotonic() + servers.START_SECONDS
    while not output.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return output.read_text().splitlines()


def count(forms: Sequence[Form], folder: Path, store: str, rows: dict[str, dict[str, Any]]) -> None:
    """Instructions."""
    with batched.driven(Path(sys.executable), folder, store=store) as server:
        for form in forms:
            for stream in form.kinds:
                figure = server.count(form, stream=stream)
                rows[form.name][word(stream)]["instructions"] = figure
                sys.stderr.write(f"bench: {form.name}, {word(stream)}: {figure:,} instructions\n")


def load(
    forms: Sequence[Form],
    folder: Path,
    round_count: int,
    seconds: float,
    rows: dict[str, dict[str, Any]],
    left_out: dict[str, str],
) -> None:
    """Requests a second, everybody with the same body."""
    core, load_core = machines.cores()
    with servers.upstream(folder / "upstream", load_core) as above, ExitStack() as stack:
        where = rounds.Range(above, folder, core, load_core, seconds, round_count)
        everybody = [stack.enter_context(contenders.floor(above, folder / "nginx", core))]
        try:
            peer = peers.named(ROLTER)[0]
            everybody.append(stack.enter_context(peers.running(peer, above, folder / ROLTER, core)))
        except servers.DidNotStart as reason:
            left_out[ROLTER] = str(reason)
        for store in dict.fromkeys(form.store for form in forms):
            of_store = [form for form in forms if form.store == store]
            with ExitStack() as inner:
                try:
                    ours = inner.enter_context(serving(above, folder / f"load-{store}", core, store))
                except servers.DidNotStart as reason:
                    left_out[f"{store} quota"] = str(reason)
                    continue
                for form in of_store:
                    for stream in form.kinds:
                        sys.stderr.write(f"bench: {form.name}, {word(stream)}\n")
                        measure(where, form, stream, [*everybody, ours], rows[form.name].setdefault(word(stream), {}))


@contextmanager
def serving(above: servers.Upstream, folder: Path, core: int, store: str) -> Iterator[Contender]:
    """modelport with the configuration of the mix, as a contender."""
    folder.mkdir(parents=True)
    port = servers.free_port()
    with batched.quota_store(store, folder, core) as lines:
        config = folder / "modelport.yaml"
        config.write_text(batched.config_of(port, folder, batched.providers_at(above.port), lines))
        command = [sys.executable, "-m", "bench.switches", "ledger", "--", "serve", "--config", str(config)]
        environment = {"BENCH_TEAM_KEY": batched.TEAM_KEY}
        with servers.serving(command, port, folder, core, environment) as process:
            yield Contender(contenders.OURS, {"whole": Door(port)}, process)


def measure(where: rounds.Range, form: Form, stream: bool, everybody: Sequence[Contender], row: dict[str, Any]) -> None:
    """One row's requests a second, and the ratios within each round."""
    entered = []
    for one in everybody:
        door = one.doors["stream" if stream and "stream" in one.doors else "whole"]
        credential = batched.credential_of(form)
        headers = (*contenders.bearer(credential), *form.headers) if one.name == contenders.OURS else door.headers
        headers = headers if one.name == contenders.OURS else (*headers, *form.headers)
        if one.name == ROLTER and not form.is_chat:
            continue
        known = Door(door.port, form.path, headers)
        entered.append(Contender(one.name, {"whole": known}, one.process, one.facts))
    scenario = MixScenario(
        f"{form.name}, {word(stream)}", "mix", CONNECTIONS, streamed=stream, least_seconds=1 if stream else 0, form=form
    )
    result = rounds.measured(where, scenario, entered)
    assert result is not None
    for name, found in result["contenders"].items():
        row[name] = {figure: found[figure] for figure in ("rps", "cpu_us", "failures", "disturbed")}
        if "rps_x" in found:
            row["times"] = found["rps_x"]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """As it is printed."""
    heads = ("instructions", "files", "functions", "modelport/s", "x nginx", "x rolter", "nginx/s", "rolter/s")
    lines = [f"{'':<44}" + "".join(f"{head:>14}" for head in heads)]
    for name, found in rows.items():
        for kind, row in found.items():
            cells = [row.get("instructions"), row.get("files"), row.get("functions")]
            cells += [row.get(contenders.OURS, {}).get("rps")]
            cells += [row.get("times", {}).get(peer) for peer in (contenders.FLOOR, ROLTER)]
            cells += [row.get(peer, {}).get("rps") for peer in (contenders.FLOOR, ROLTER)]
            lines.append(f"{name + ', ' + kind:<44}" + "".join(f"{shown(cell):>14}" for cell in cells))
    return "\n".join(lines)


def shown(value: float | None) -> str:
    """A cell."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    main()
