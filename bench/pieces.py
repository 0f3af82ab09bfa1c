"""Where the instructions of a chat go: each piece counted alone, in a loop, with the objects of a real server.

python -m bench.pieces [--python PATH] [--times 400] [--name NAME]

User instructions of the one thread (bench/counters.py). What is left of the whole, which `python -m bench.gate` counts,
is the sockets, the loop and the steps between the pieces.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from bench import counters, instructions, interpreters, servers, written
from modelport.app.build import serving
from modelport.config.load import load
from modelport.core.identity import Identified, Peer
from modelport.core.requests import ChatRequest
from modelport.dialects import fresh_ids
from modelport.gateway.answering import whole_text
from modelport.gateway.call import Origin
from modelport.gateway.estimate import need
from modelport.gateway.forms import encoded
from modelport.gateway.identify import identify
from modelport.gateway.plan import Caller, CallPlan
from modelport.lane.heads import AnswerHeads, numbers
from modelport.lane.repeated import RepeatedHead
from modelport.lane.reply import head_of
from modelport.stores.allotments import Amount, MemoryBank, SharedQuota
from modelport.stores.allotments.account import Grant
from modelport.surfaces.headers import RequestHead
from modelport.upstream.reply_head import FieldReader
from modelport.upstream.usual import UsualReply

URL: Final = b"/v1/chat/completions"
NOTHING: Final = "nothing"
GRANTED: Final = "(instead, where others share the quota: from what is granted)"
RESERVED: Final = "(the same through the port: reserved, told of, settled)"
INSTEAD: Final = (GRANTED, RESERVED)
"""What a usual call does not do."""
KEY: Final = "MODELPORT_API_KEY"
FLUSHED_CALLS: Final = 16
"""So many calls share a write of the journal, as with sixteen connections."""
COUNTED_AT_ONCE: Final = 1024


def main() -> None:
    """Counts all pieces and prints them, the dearest first."""
    parser = argparse.ArgumentParser(prog="python -m bench.pieces", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", help="the interpreter that runs modelport; gets an environment of its own")
    parser.add_argument("--times", type=int, default=COUNTED_AT_ONCE, help="how often each piece is done")
    parser.add_argument("--name", help="write bench/results/NAME.json instead of a local file")
    wanted = parser.parse_args()
    python = interpreters.prepared(wanted.python)
    whole = instructions.price(python, instructions.default_requests(), without="ledger").loop
    pieces = counted(python, wanted.times)
    pieces["sockets, loop, steps between the pieces"] = whole - sum(
        n for piece, n in pieces.items() if piece not in INSTEAD
    )
    for name, count in sorted(pieces.items(), key=lambda found: -found[1]):
        print(f"{count:8,}  {name}")
    print(f"{whole:8,}  in all")
    facts = interpreters.described(python)
    content = {"measured_python": facts, "counted_by": counters.mechanism(), "whole": whole, "pieces": pieces}
    written.write("pieces", wanted.name, content)


def counted(python: Path, times: int, module: str = "bench.pieces") -> dict[str, int]:
    """Instructions of each piece of the module, once."""
    with tempfile.TemporaryDirectory(prefix="modelport-pieces-") as name:
        folder = Path(name)
        command = counters.serving([str(python), "-m", module, "--inside", str(folder)], folder)
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", KEY: servers.KEY}
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            ) as child,
        ):
            assert child.stdin is not None and child.stdout is not None
            found = {}
            told = child.stdout.readline()
            if not told:
                raise SystemExit(f"bench: it did not start\n{(folder / 'log').read_text()}")
            for piece in told.strip().split(";"):
                for number in (times, times):  # the first is for what is learned from it
                    with counters.between(child.pid, folder) as count:
                        print(f"{piece};{number}", file=child.stdin, flush=True)
                        child.stdout.readline()
                    for path in folder.glob("server*"):
                        path.unlink()
                found[piece] = count.loop // times
            child.stdin.close()
    nothing = found.pop(NOTHING)
    return {piece: count - nothing for piece, count in found.items()}


async def inside(folder: Path) -> None:
    """The other end: does what it is asked for, as often as it is asked for."""
    config = folder / "modelport.yaml"
    config.write_text(instructions.CONFIG.format(port=0, folder=folder, mock=9, limits=servers.GENEROUS))
    async with serving(load(config, os.environ), None) as application:
        follow(pieces_of(application))


def follow(pieces: Mapping[str, Callable[[], object]]) -> None:
    """Does each piece as often as a line of the standard input says."""
    print(";".join(pieces), flush=True)
    for line in sys.stdin:
        piece, _, times = line.strip().partition(";")
        step = pieces[piece]
        for _ in range(int(times)):
            step()
        print("done", flush=True)


def pieces_of(application: Any) -> dict[str, Callable[[], object]]:
    """What a chat is made of, with what a first one has left behind."""
    lane, body, pipeline = application.lane, instructions.body(False), application.gateway.pipeline
    way, clock = lane.way(URL), pipeline.clock
    fields = {b"host": b"127.0.0.1", b"authorization": f"Bearer {os.environ[KEY]}".encode()}
    headers = [*fields.items(), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    data = b"POST %b HTTP/1.1\r\n%b\r\n%b" % (URL, b"".join(b"%b: %b\r\n" % field for field in headers), body)
    key, snapshot = lane.key(way, dict(headers), Peer()), pipeline.snapshot()
    head = RepeatedHead.of(data, headers, way, key, snapshot, 32 * 1024)
    asked = RequestHead(method="POST", path=way.path, headers=dict(headers), query=way.query, request_id="")
    said = head_of(lane, way, asked)
    found = identify(said.credential, snapshot, pipeline.authenticators, clock)
    assert head is not None and head.match(data) is not None and isinstance(found, Identified)
    caller = Caller(said, found, snapshot, pipeline.runtime, pipeline.observer, pipeline.callers.planned)
    pipeline.callers.find(key, snapshot, clock.now())  # it is the current snapshot now
    pipeline.callers.keep(key, caller)
    request, plan = said.decode(body), caller.plan("bench")
    assert isinstance(plan, CallPlan)
    target, codec = plan.deployment.targets[0], pipeline.asked("mock").codec
    reply = REPLY_HEAD % len(REPLY) + REPLY
    usual = UsualReply()
    usual.learn(reply, FieldReader().read(reply))
    answer, quota = codec.whole_answer(REPLY), pipeline.quota.state(plan.claims, ())
    assert usual.match(reply) is not None and answer is not None
    default = [(b"date", b"Sat, 21 Nov 2026 12:00:00 GMT"), (b"server", b"modelport")]
    origin = Origin(quota, plan.deployment, snapshot)
    fields_said, closes = lane.default_headers(default)
    kept = AnswerHeads.of(asked, origin, default, fields_said, closes, lane.region, ()).kept
    subject, limits = plan.claims[0].subject, plan.claims[0].limits
    assert kept is not None
    account = pipeline.quota.quota.account(subject, clock.monotonic())
    shared, grant = granted(clock, subject)
    id, times = fresh_ids.uuid(), [0]
    rows, opening, closing, series = records(plan, id), plan.opened(False), plan.closed(target), plan.series()

    def taken(account: Any) -> None:
        now = clock.monotonic()
        account.take(limits, 500, now)
        account.settle(limits, 500, 100, 0.01, now)

    def reserved() -> None:
        reservation: Any = shared.reserve(subject, limits, 500, clock.monotonic())
        reservation.state()
        reservation.settle(100)

    def lines() -> None:
        pipeline.journal.open_formed(id, opening, rows[0])
        pipeline.journal.close_formed(id, closing, rows[1])
        times[0] += 1
        if times[0] % FLUSHED_CALLS == 0:
            pipeline.journal.flush()

    def answer_head() -> bytes:
        written: bytes = kept % (rows[2].encode(), rows[2].encode(), rows[2].encode(), *numbers(quota), len(REPLY))
        return written + REPLY

    return {
        NOTHING: lambda: None,
        "the request's head, known again": lambda: head.match(data),
        "who asks, by a keyed hash of its head": lambda: pipeline.callers.find(
            lane.key(way, fields, Peer()), snapshot, clock.now()
        ),
        "the request's body, decoded": lambda: said.decode(body),
        "its plan, its shape and what it needs": lambda: (
            caller.plan("bench"),
            plan.shaped(request),
            need(request, plan.tightest, snapshot.reserve_tokens),
        ),
        "the quota's account, taken and settled": lambda: taken(account),
        GRANTED: lambda: taken(grant),
        RESERVED: reserved,
        "the request's id": fresh_ids.uuid,
        "two records, filled in": lambda: records(plan, rows[2]),
        "their lines and their share of the seal": lines,
        "the target's request, encoded": lambda: codec.encode(request, target),
        "the reply's head, known again": lambda: usual.match(reply),
        "the reply's body, decoded": lambda: codec.whole_answer(REPLY),
        "the answer in the surface's words, with its id": lambda: whole_text(plan, request, answer, clock.now()),
        "the answer's head": answer_head,
        "metrics": lambda: series.completed(closing, rows[1], 0.01, 24, 64, 500),
    }


def granted(clock: Any, subject: str) -> tuple[SharedQuota, Grant]:
    """A quota that others share, whose store has given enough for all that is counted."""
    shared = SharedQuota(MemoryBank(clock), clock)
    grant = shared.account(subject, clock.monotonic())
    grant.add(Amount(10**9, 10**9, 0))
    grant.account.sure_until = math.inf
    return shared, grant


def records(plan: CallPlan, id: str) -> tuple[bytes, bytes, str]:
    """What differs in both of a call, and its id."""
    request, named = ChatRequest(messages=()), plan.named.get("mock") or plan.named_json("mock")
    prices = plan.prices(request, need(request, plan.tightest, 0), STARTED)
    assert prices is not None
    seconds, price = 0.0123456789, prices.bound(204, 256)
    opened = encoded((id, STARTED, {"input": 204, "output": 256}, 460, None, price))
    closed = encoded((id, STARTED, named, {"input": 24, "output": 64}, 460, seconds, seconds, None, price))
    return opened, closed, id


STARTED: Final = 1_763_735_536.123456
REPLY: Final = (
    b'{"id":"chatcmpl-0123456789abcdef","object":"chat.completion","created":1700000000,"model":"mock","choices":[{'
    b'"index":0,"message":{"role":"assistant","content":"' + b"lorem ipsum dolor sit amet " * 11 + b'"},"logprobs":null'
    b',"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":64,"total_tokens":88}}'
)
REPLY_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        asyncio.run(inside(Path(sys.argv[2])))
    else:
        main()
