"""What happens at a limit, against a real server: waiting, spilling over, repeating, and a caller's own limits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from served import Answer, JournalTail, Served, eventually

OTHER_KEY = "another-key-77c1e8"


def deployment(name: str, **fields: Any) -> dict[str, Any]:
    return {"model": {"format": "Custom", "name": name, "version": "1"}, "provider": "script", **fields}


CONFIG: dict[str, Any] = {
    "providers": {
        "script": {
            "type": "scripted",
            "replies": [
                {"match": {"contains": "fail"}, "fault": {"status": 500}},
                {"match": {"contains": "slowly"}, "chunks": ["a "] * 4, "delay_between_chunks_seconds": 0.3},
                {"match": {"contains": "at length"}, "chunks": ["word "] * 1500},
            ],
        },
    },
    "keys": {"team": {"key1": "env:TEAM_KEY", "limits": {"requests_per_minute": 2}}},
    "deployments": {
        "Patient": deployment("patient", limits={"concurrent_requests": 1, "wait_seconds": 20}),
        "Hurried": deployment("hurried", limits={"concurrent_requests": 1}),
        "Provisioned": deployment(
            "provisioned",
            sku={"name": "GlobalProvisionedManaged", "capacity": 10},
            limits={"requests_per_minute": 1},
            spillover="Standby",
        ),
        "Standby": deployment("standby", limits={"requests_per_minute": 2}),
        "Strict-standby": deployment("strict-standby", profile={"seed": "unsupported"}),
        "Spills-to-strict": deployment("spills", limits={"requests_per_minute": 1}, spillover="Strict-standby"),
        "Once": deployment("once", limits={"requests_per_minute": 1}),
        "Open": deployment("open", limits={"tokens_per_minute": None, "requests_per_minute": None}),
        "Narrow": deployment("narrow", limits={"tokens_per_minute": 1200, "wait_seconds": 3}),
    },
}


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, TEAM_KEY=OTHER_KEY)


def chat(served: Served, deployment: str, text: str = "Hello!", id: str | None = None, **fields: Any) -> Answer:
    key = fields.pop("key", served.key)
    headers = {} if id is None else {"x-ms-client-request-id": id}
    body = {"model": deployment, "messages": [{"role": "user", "content": text}], **fields}
    return served.call("POST", "/models/chat/completions", body, headers=headers, key=key)


def at_once(*calls: Callable[[], Answer]) -> list[Answer]:
    start = threading.Barrier(len(calls))

    def one(call: Callable[[], Answer]) -> Answer:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_calls_that_may_wait_are_all_answered_and_others_are_refused(served):
    patient = at_once(*[lambda: chat(served, "Patient", "slowly")] * 3)
    assert [answer.status for answer in patient] == [200, 200, 200]
    hurried = at_once(*[lambda: chat(served, "Hurried", "slowly")] * 3)
    assert sorted(answer.status for answer in hurried) == [200, 429, 429]


def test_a_caller_that_hangs_up_while_it_waits_leaves_one_record_and_holds_nothing(served):
    tail = JournalTail(served.data_dir / "journal")
    body = {"model": "Patient", "messages": [{"role": "user", "content": "slowly"}]}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(chat, served, "Patient", "slowly", "the-running-one")
        eventually(lambda: tail.of("the-running-one", "open"), "the call that runs")
        with served.connect() as connection:
            connection.sendall(
                served.request("/models/chat/completions", body, x_ms_client_request_id="the-waiting-one")
            )
            # Until it is told, the server may not have read it.
            eventually(lambda: served.metric("modelport_calls_in_flight") >= 2, "the call that waits")
        eventually(lambda: tail.of("the-waiting-one"), "its record")
        assert running.result().status == 200
    (record,) = tail.of("the-waiting-one")
    assert (record.ending, record.usage.total) == ("cancelled", 0)
    assert chat(served, "Patient").status == 200


def test_a_full_deployment_hands_its_calls_to_the_one_that_takes_over_once(served):
    tail = JournalTail(served.data_dir / "journal")
    answers = [chat(served, "Provisioned", id=f"spill-{number}") for number in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.json["model"] for answer in answers[:3]] == ["provisioned", "standby", "standby"]
    assert answers[1].headers["x-ratelimit-limit-requests"] == "2"
    assert int(answers[3].headers["retry-after"]) >= 1
    records = [tail.of(f"spill-{number}")[0] for number in range(4)]
    assert [(record.deployment, record.spilled_from) for record in records] == [
        ("Provisioned", None), ("Standby", "Provisioned"), ("Standby", "Provisioned"), ("Provisioned", None),
    ]  # fmt: skip


def test_a_deployment_that_cannot_take_over_changes_nothing_about_the_refusal(served):
    assert chat(served, "Spills-to-strict", seed=1).status == 200
    refused = chat(served, "Spills-to-strict", seed=1)
    assert refused.status == 429
    assert chat(served, "Spills-to-strict").json["model"] == "strict-standby"


def test_a_repeat_of_a_failed_call_takes_no_second_unit(served):
    assert chat(served, "Once", "fail", id="to-be-repeated").status >= 500
    assert chat(served, "Once", id="another").status == 429
    assert chat(served, "Once", "fail", id="to-be-repeated").status >= 500
    assert chat(served, "Once", id="to-be-repeated").status == 200
    assert chat(served, "Once", id="to-be-repeated").status == 429


def test_a_refusal_says_how_much_of_both_quotas_is_left(served):
    refused = [chat(served, "Standby") for _ in range(3)][-1]
    assert refused.status == 429
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-limit-tokens"] == "200000"
    assert 0 < int(refused.headers["x-ratelimit-remaining-tokens"]) < 200_000
    assert refused.headers["x-ratelimit-reset-requests"] == refused.headers["retry-after"]


def test_a_key_has_limits_of_its_own_over_all_deployments(served):
    statuses = [chat(served, name, key=OTHER_KEY).status for name in ("Open", "Strict-standby", "Open")]
    assert statuses == [200, 200, 429]
    assert chat(served, "Open").status == 200


def test_an_answer_without_max_tokens_waits_for_room_and_goes_on(served):
    """The other call has reserved what it does not use: when it ends, the long answer goes on."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(chat, served, "Narrow", "slowly", max_tokens=500)
        tail = JournalTail(served.data_dir / "journal")
        eventually(lambda: any(line.kind == "open" and b"Narrow" in bytes(line.record) for line in tail.read()), "it")
        answer = chat(served, "Narrow", "at length", max_tokens=None)
        assert other.result().status == 200
    # It gets the rest of the limit, and not only what was free at first.
    assert answer.status == 200
    assert answer.json["choices"][0]["finish_reason"] == "length"
    assert answer.usage["completion_tokens"] > 700
