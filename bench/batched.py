"""Instructions of a request in the forms of the mix, counted in fixed batches, which other load changes little.

python -m bench.batched [NAME ...] [--batches 30] [--python PATH]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import batches, counters, interpreters, mix_forms, servers
from bench.batches import Batches
from bench.mix_forms import FORMS, Form
from bench.token_issuer import issuer

TEAM_KEY = "bench-team-0123456789abcdef0123"
WARMING_BATCHES = 10
BATCHES = 30
STREAM_BATCHES = 4
IDLE_SECONDS = 2.0
SETTLING_SECONDS = 0.1
REDIS = "redis-server"


class Driven:
    """A modelport under a counter, with the client and the upstream that drive it."""

    def __init__(self, driver: Batches, process_id: int, port: int, folder: Path) -> None:
        self.driver = driver
        self.process_id = process_id
        self.folder = folder
        self.port = port
        self._idle_rate = 0.0

    def count(self, form: Form, *, stream: bool = False, batch_count: int = 0) -> int:
        """Instructions of all threads for one request, without those of timers, which depend on the time it takes."""
        batch_count = batch_count or (STREAM_BATCHES if stream else BATCHES)
        request, answer = request_of(form, stream), answer_of(form, stream)
        self.driver.connect(self.process_id, self.port)
        self.driver.run(request, answer, 3 if stream else WARMING_BATCHES)
        if not self._idle_rate:
            counted, seconds = self._counted(lambda: time.sleep(IDLE_SECONDS))
            self._idle_rate = counted / seconds
        counted, seconds = self._counted(lambda: self.driver.run(request, answer, batch_count))
        return int(counted - self._idle_rate * seconds) // (batch_count * batches.CONNECTIONS)

    def _counted(self, work: Callable[[], None]) -> tuple[int, float]:
        with counters.between(self.process_id, self.folder) as found:
            began = time.monotonic()
            time.sleep(SETTLING_SECONDS)
            work()
            time.sleep(SETTLING_SECONDS)
            seconds = time.monotonic() - began
        return found.whole, seconds


def request_of(form: Form, stream: bool = False) -> bytes:
    """The bytes on the wire."""
    body = form.body(stream)
    lines = [f"POST {form.path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {credential_of(form)}", *form.headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def credential_of(form: Form) -> str:
    """The key or the token that it shows."""
    if form.key == "token":
        return issuer().token
    return servers.KEY if form.key == "operator" else TEAM_KEY


def answer_of(form: Form, stream: bool) -> batches.Answer:
    """What the upstream says to it."""
    if stream:
        return batches.stream()
    return batches.whole(batches.WHOLE if form.is_chat else batches.VECTORS)


@contextmanager
def driven(
    python: Path, folder: Path, *, store: str = "memory", module: Sequence[str] = (), counted: bool = True
) -> Iterator[Driven]:
    """A modelport that is ready. `module`: what runs it, instead of `bench.switches`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = servers.free_port()
    with ExitStack() as stack:
        driver = Batches()
        stack.callback(driver.close)
        config = folder / "modelport.yaml"
        where_quota = stack.enter_context(quota_store(store, folder))
        config.write_text(config_of(port, folder, providers_at(driver.upstream_port), where_quota))
        start = [str(python), *(module or ("-m", "bench.switches", "ledger")), "--", "serve", "--config", str(config)]
        command = counters.serving(start, folder) if counted else start
        environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "BENCH_TEAM_KEY": TEAM_KEY}
        process = stack.enter_context(servers.serving(command, port, folder, environment=environment))
        try:
            yield Driven(driver, process.pid, port, folder)
        finally:
            process.kill()


def config_of(
    port: int, folder: Path, providers: tuple[str, str], store: str, policy: str = mix_forms.NO_FILTER
) -> str:
    """modelport.yaml. `policy`: of content filters."""
    about = {"limits": servers.GENEROUS, "issuer": issuer().url, "policy": policy}
    return mix_forms.CONFIG.format(
        port=port, folder=folder, mock=providers[0], other=providers[1], store=store, **about
    )


def providers_at(port: int) -> tuple[str, str]:
    """Two of the upstream there."""
    provider = '{{type: openai_compatible, base_url: "http://127.0.0.1:{}{}"}}'
    return provider.format(port, "/v1"), provider.format(port, "/other/v1")


@contextmanager
def quota_store(store: str, folder: Path, core: int | None = None) -> Iterator[str]:
    """The lines of the configuration that name the store of the quota. Raises DidNotStart."""
    if store != "redis":
        yield ""
        return
    port = servers.free_port()
    command = [REDIS, "--port", str(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
    try:
        with servers.running(command, core, folder=folder) as process:
            servers.await_port(port, process=process)
            url = folder / "redis_url"
            url.write_text(f"redis://127.0.0.1:{port}/0")
            yield f'redis_url: "file:{url}"'
    except FileNotFoundError:
        raise servers.DidNotStart("redis-server is not here") from None


def main() -> None:
    """Prints a line for each form."""
    parser = argparse.ArgumentParser(prog="python -m bench.batched", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="parts of names of forms; all without one")
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--python", help="the interpreter that runs modelport; gets an environment of its own")
    wanted = parser.parse_args()
    python = interpreters.prepared(wanted.python)
    chosen = [form for form in FORMS if not wanted.names or any(name in form.name for name in wanted.names)]
    for store in dict.fromkeys(form.store for form in chosen):
        with (
            tempfile.TemporaryDirectory(prefix="modelport-batched-") as name,
            driven(python, Path(name), store=store) as server,
        ):
            for form in chosen:
                if form.store == store:
                    print(f"{form.name}: {server.count(form, batch_count=wanted.batches):,}", flush=True)


if __name__ == "__main__":
    main()
