"""Azure's content safety client, as it is, against a server process, alone and with workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from azure.ai.contentsafety import BlocklistClient, ContentSafetyClient
from azure.ai.contentsafety.models import (
    AddOrUpdateTextBlocklistItemsOptions,
    AnalyzeTextOptions,
    RemoveTextBlocklistItemsOptions,
    TextBlocklist,
    TextBlocklistItem,
)
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from modelport.core.usage import UsageRecord
from served import KEY, Answer, Served

GUEST, CHATTER, SLOW = "key-of-a-guest-77", "key-of-a-chatter-78", "key-of-a-slow-79"
CONFIG: dict[str, Any] = {
    "server": {"default_content_filter": "Microsoft.Nill"},
    "providers": {"house": {"type": "scripted"}},
    "deployments": {"script": {"model": {"name": "script"}, "provider": "house"}},
    "keys": {
        "guest": {"key1": "env:GUEST_KEY"},
        "slow": {"key1": "env:SLOW_KEY", "limits": {"requests_per_minute": 2}},
        "chatter": {"key1": "env:CHATTER_KEY", "operations": ["chat_completions"]},
    },
    "blocklists": {"file": [{"name": "first", "exact": "forbidden fruit"}, {"regex": r"acme-\d{3}"}]},
}


@pytest.fixture(scope="module", params=["1", "2"])
def served(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, GUEST_KEY=GUEST, CHATTER_KEY=CHATTER, SLOW_KEY=SLOW, MODELPORT_WORKERS=request.param)


@pytest.fixture
def blocklists(served: Served) -> Iterator[BlocklistClient]:
    with BlocklistClient(served.url, AzureKeyCredential(KEY), retry_total=0) as client:
        yield client
        for found in client.list_text_blocklists():
            if found.blocklist_name != "file":
                client.delete_text_blocklist(found.blocklist_name)


@pytest.fixture
def safety(served: Served) -> Iterator[ContentSafetyClient]:
    with ContentSafetyClient(served.url, AzureKeyCredential(GUEST), retry_total=0) as client:
        yield client


def add(client: BlocklistClient, name: str, *texts: str) -> list[TextBlocklistItem]:
    items = [TextBlocklistItem(text=text) for text in texts]
    options = AddOrUpdateTextBlocklistItemsOptions(blocklist_items=items)
    return client.add_or_update_blocklist_items(name, options).blocklist_items


def analyze(served: Served, body: Any, key: str | None = GUEST, **query: str) -> Answer:
    asked = urlencode({"api-version": "2023-10-01", **query})
    return served.call("POST", f"/contentsafety/text:analyze?{asked}", body, key=key)


def ids(served: Served) -> set[str]:
    return {record.id for record in served.journal()}


def records(served: Served, before: set[str]) -> list[UsageRecord]:
    """Those that have come since."""
    return [record for record in served.journal() if record.id not in before]


def test_the_client_manages_blocklists(blocklists: BlocklistClient) -> None:
    made = blocklists.create_or_update_text_blocklist(
        "mine", TextBlocklist(blocklist_name="mine", description="First.")
    )
    assert (made.blocklist_name, made.description) == ("mine", "First.")
    changed = blocklists.create_or_update_text_blocklist("mine", {"description": "Second."})
    assert changed.description == blocklists.get_text_blocklist("mine").description == "Second."
    assert {found.blocklist_name for found in blocklists.list_text_blocklists()} == {"file", "mine"}

    first, second = add(blocklists, "mine", "red", "blue")
    described = TextBlocklistItem(text="red", description="Like roses.")
    blocklists.add_or_update_blocklist_items("mine", AddOrUpdateTextBlocklistItemsOptions(blocklist_items=[described]))
    assert blocklists.get_text_blocklist_item("mine", first.blocklist_item_id).description == "Like roses."
    (again,) = add(blocklists, "mine", "red")
    assert again.blocklist_item_id == first.blocklist_item_id != second.blocklist_item_id
    assert [item.text for item in blocklists.list_text_blocklist_items("mine")] == ["red", "blue"]
    assert [item.text for item in blocklists.list_text_blocklist_items("mine", top=1, skip=1)] == ["blue"]
    assert blocklists.get_text_blocklist_item("mine", first.blocklist_item_id).text == "red"

    gone = RemoveTextBlocklistItemsOptions(blocklist_item_ids=[first.blocklist_item_id])
    blocklists.remove_blocklist_items("mine", gone)
    assert [item.text for item in blocklists.list_text_blocklist_items("mine")] == ["blue"]
    for absent in (
        lambda: blocklists.remove_blocklist_items("mine", gone),
        lambda: blocklists.get_text_blocklist_item("mine", first.blocklist_item_id),
        lambda: blocklists.get_text_blocklist("absent"),
        lambda: add(blocklists, "absent", "red"),
    ):
        with pytest.raises(ResourceNotFoundError) as refused:
            absent()
        assert refused.value.error is not None and refused.value.error.code == "ResourceNotFound"
    blocklists.delete_text_blocklist("mine")
    assert [found.blocklist_name for found in blocklists.list_text_blocklists()] == ["file"]


def test_the_files_blocklists_are_not_changed(blocklists: BlocklistClient) -> None:
    items = {item.blocklist_item_id: item.text for item in blocklists.list_text_blocklist_items("file")}
    assert items["first"] == "forbidden fruit" and set(items.values()) == {"forbidden fruit", r"acme-\d{3}"}
    with pytest.raises(HttpResponseError) as refused:
        add(blocklists, "file", "red")
    assert refused.value.status_code == 409


def test_blocklists_are_an_administrators(served: Served) -> None:
    with BlocklistClient(served.url, AzureKeyCredential(GUEST), retry_total=0) as client:
        with pytest.raises(ClientAuthenticationError):
            client.get_text_blocklist("file")
        with pytest.raises(ClientAuthenticationError):
            client.create_or_update_text_blocklist("theirs", {})
    assert served.call("GET", "/contentsafety/text/blocklists", key=None).status == 401


def test_an_entry_that_cannot_be_looked_for_is_refused(served: Served, blocklists: BlocklistClient) -> None:
    blocklists.create_or_update_text_blocklist("mine", {})
    path = "/contentsafety/text/blocklists/mine:addOrUpdateBlocklistItems"
    for item, said in (
        ({"text": "(?=a)b", "isRegex": True}, "look-around"),
        ({"text": "\u200b"}, "invisible"),
        ({"text": ""}, "text is missing"),
        ("red", "text is missing"),
    ):
        answer = served.call("POST", path, {"blocklistItems": [item]})
        assert answer.status == 400, answer.body
        assert answer.json["error"]["code"] == "InvalidRequestBody"
        assert said in answer.json["error"]["message"]
    assert list(blocklists.list_text_blocklist_items("mine")) == []


def test_the_client_analyzes_text_by_blocklists(
    served: Served, safety: ContentSafetyClient, blocklists: BlocklistClient
) -> None:
    blocklists.create_or_update_text_blocklist("mine", {})
    (item,) = add(blocklists, "mine", "chopping tomatoes")
    before = ids(served)
    text = "Сhоpping t0matoes for ACME-123, no fruit."
    found = safety.analyze_text(AnalyzeTextOptions(text=text, categories=[], blocklist_names=["Mine", "file"]))
    assert found.blocklists_match is not None
    matches = [(one.blocklist_name, one.blocklist_item_id, one.blocklist_item_text) for one in found.blocklists_match]
    assert matches[0] == ("Mine", item.blocklist_item_id, "chopping tomatoes")
    assert [(name, text) for name, _, text in matches[1:]] == [("file", r"acme-\d{3}")]
    assert found.categories_analysis == []
    (record,) = records(served, before)
    assert (record.surface, record.operation, record.principal) == ("contentsafety", "content_safety", "guest")
    assert (record.status, record.ending, record.deployment, record.pricing) == (200, "completed", None, "free")
    assert record.content_filter == "prompt.custom_blocklists"
    assert not (served.log.read_bytes().count(b"t0matoes"))


def test_without_a_classifier_no_severity_is_given(served: Served, safety: ContentSafetyClient) -> None:
    with pytest.raises(HttpResponseError) as refused:
        safety.analyze_text(AnalyzeTextOptions(text="Hello!"))
    assert refused.value.status_code == 501
    assert refused.value.error is not None and refused.value.error.code == "NotImplemented"
    assert "categories: []" in str(refused.value)
    halted = AnalyzeTextOptions(text="forbidden fruit", blocklist_names=["file"], halt_on_blocklist_hit=True)
    answer = safety.analyze_text(halted)
    assert answer.blocklists_match and answer.categories_analysis == []


@pytest.mark.parametrize(
    ("body", "query", "status", "code", "said"),
    [
        ({"text": "x", "blocklistNames": ["absent"]}, {}, 404, "ResourceNotFound", "no blocklist 'absent'"),
        ({"text": "x" * 10_001}, {}, 400, "InvalidRequestBody", "10001 characters"),
        ({"text": ""}, {}, 400, "InvalidRequestBody", "text is empty"),
        ({}, {}, 400, "InvalidRequestBody", "text"),
        ({"text": "x", "categories": ["Rude"]}, {}, 400, "InvalidRequestBody", "Rude"),
        ({"text": "x", "outputType": "TwoLevels"}, {}, 400, "InvalidRequestBody", "TwoLevels"),
        ({"text": "x", "blocklistNames": ["a"] * 101}, {}, 400, "InvalidRequestBody", "length"),
        (b'{"text": "\\ud800", "categories": []}', {}, 400, "InvalidRequestBody", "JSON"),
        (b'{"text": "x", "more": ' + b"[" * 100_000, {}, 400, "InvalidRequestBody", "JSON"),
        (b"", {}, 400, "InvalidRequestBody", "JSON"),
        ({"text": "x", "categories": []}, {"api-version": "soon"}, 400, "InvalidRequestBody", "API version"),
    ],
)
def test_a_refusal_says_what_and_leaves_a_record(
    served: Served, body: Any, query: dict[str, str], status: int, code: str, said: str
) -> None:
    before = ids(served)
    answer = analyze(served, body, **query)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert said in answer.json["error"]["message"]
    (record,) = records(served, before)
    assert (record.status, record.ending) == (status, "refused")


def test_callers_are_known_and_scoped(served: Served) -> None:
    before = ids(served)
    body = {"text": "x", "categories": []}
    assert analyze(served, body, key=None).status == 401
    assert analyze(served, body, key="wrong").json["error"]["code"] == "401"
    assert ids(served) == before
    assert analyze(served, body, key=CHATTER).json["error"]["code"] == "PermissionDenied"
    assert [record.error_code for record in records(served, before)] == ["PermissionDenied"]
    bearer = served.call(
        "POST", "/contentsafety/text:analyze", body, key=None, headers={"authorization": f"Bearer {KEY}"}
    )
    assert bearer.json == {"blocklistsMatch": [], "categoriesAnalysis": []}
    assert served.call("GET", "/contentsafety/text:analyze", key=KEY).status == 405
    assert served.call("POST", "/contentsafety/image:analyze", {}, key=KEY).json["error"]["code"] == "ResourceNotFound"


def test_a_call_counts_as_a_request_of_its_key(served: Served) -> None:
    before = ids(served)
    answers = [analyze(served, {"text": "x", "categories": []}, key=SLOW) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].json["error"]["code"] == "RateLimitReached"
    assert int(answers[2].headers["retry-after"]) >= 1
    assert sorted(record.status for record in records(served, before)) == [200, 200, 429]


@pytest.mark.embedded
def test_the_classifier_gives_severities(serve_module: Callable[..., Served]) -> None:
    script = {"model": {"name": "script"}, "provider": "house", "content_filter": "Microsoft.DefaultV2"}
    served = serve_module({**CONFIG, "keys": {}, "deployments": {"script": script}})
    with ContentSafetyClient(served.url, AzureKeyCredential(KEY), retry_total=0) as client:
        harsh = client.analyze_text(AnalyzeTextOptions(text="I will kill you and burn your house down."))
        found = {one.category: one.severity for one in harsh.categories_analysis}
        assert list(found) == ["Hate", "SelfHarm", "Sexual", "Violence"]
        assert found["Violence"] in (4, 6)
        asked = AnalyzeTextOptions(
            text="A walk in the park.", categories=["Violence"], output_type="EightSeverityLevels"
        )
        mild = client.analyze_text(asked)
        assert [(one.category, one.severity) for one in mild.categories_analysis] == [("Violence", 0)]
    assert [record.status for record in served.journal()] == [200, 200]
