"""What a content filter adds to a call at a whole server: the same prompts to a deployment with `Microsoft.Nill` and to
one whose policy looks for all that `Microsoft.DefaultV2` looks for, but only annotates: a prompt of fifteen look-alikes
may well hold a false alarm. The model repeats them. Processor time of all processes together."""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench import servers
from bench.safety.frozen import Sample
from bench.safety.judged import DATA_DIR
from bench.safety.price import cpu_seconds, prompts

KEY: Final = "bench-key-0123456789abcdef"
POLICIES: Final = ("nill", "default")
ANNOTATED: Final = "{at: medium, effect: annotate}"
CONFIG: Final = """\
server: {{port: {port}, data_dir: {folder}/data}}
auth: {{keys: ["env:BENCH_SAFETY_KEY"]}}
providers:
  scripted: {{type: scripted}}
content_filters:
  annotating:
    prompt: {{hate: {harm}, sexual: {harm}, violence: {harm}, self_harm: {harm}, jailbreak: annotate}}
    completion: {{hate: {harm}, sexual: {harm}, violence: {harm}, self_harm: {harm}}}
deployments:
  nill: {{model: {{name: any}}, provider: scripted, content_filter: Microsoft.Nill}}
  default: {{model: {{name: any}}, provider: scripted, content_filter: annotating}}
"""


def served_figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """For each policy, whole and streamed: milliseconds for a call with a prompt of 1 KB."""
    port = servers.free_port()
    with tempfile.TemporaryDirectory(prefix="modelport-safety-") as name:
        config = Path(name) / "modelport.yaml"
        config.write_text(CONFIG.format(port=port, folder=name, harm=ANNOTATED), encoding="utf-8")
        (Path(name) / "data").mkdir()
        (Path(name) / "data" / "models").symlink_to(DATA_DIR / "models")
        command = [sys.executable, "-m", "modelport", "serve", "--config", str(config)]
        with servers.running(command, environment={"BENCH_SAFETY_KEY": KEY}) as process:
            servers.await_port(port, process=process)
            for policy in POLICIES:
                call(port, policy, "A first call, by which the heads are loaded.", stream=False)
            found: dict[str, Any] = {}
            for number, stream in enumerate((False, True)):
                texts = prompts(samples, 10 + number)
                kind = "stream" if stream else "whole"
                found[kind] = {policy: timed(port, process.pid, policy, texts, stream) for policy in POLICIES}
            return found


def timed(port: int, pid: int, policy: str, texts: Sequence[str], stream: bool) -> dict[str, float]:
    """One call after the other; the medians of the waits for the first byte of the answer and for its end."""
    before, firsts, wholes = tree_seconds(pid), [], []
    for text in texts:
        first, whole = call(port, policy, text, stream=stream)
        firsts.append(first)
        wholes.append(whole)
    spent = tree_seconds(pid) - before
    middle = len(texts) // 2
    return {
        "cpu_ms": round(1000 * spent / len(texts), 2),
        "first_byte_ms": round(1000 * sorted(firsts)[middle], 2),
        "whole_ms": round(1000 * sorted(wholes)[middle], 2),
    }


def call(port: int, policy: str, text: str, *, stream: bool) -> tuple[float, float]:
    """Seconds until the first byte of the answer's body, and until its end. Raises SystemExit unless it is a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"model": policy, "stream": stream, "messages": [{"role": "user", "content": text}]}
    began = time.perf_counter()
    head = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
    answer = connection.getresponse()
    answer.read(1)
    first = time.perf_counter() - began
    answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{policy} answered {answer.status}")
    return first, time.perf_counter() - began


def tree_seconds(pid: int) -> float:
    """Processor time of a process and of all below it."""
    return sum(cpu_seconds(each) for each in tree(pid))


def tree(pid: int) -> Iterator[int]:
    """The process and all below it."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from tree(int(child))
