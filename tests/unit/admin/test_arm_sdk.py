"""Azure's management SDK, as it is, against a server process: over TLS, on one process and on several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from azure.mgmt.cognitiveservices.models import (
    CustomBlocklistConfig,
    Deployment,
    DeploymentModel,
    DeploymentProperties,
    PatchResourceTagsAndSku,
    RaiBlocklist,
    RaiBlocklistItem,
    RaiBlocklistItemProperties,
    RaiBlocklistProperties,
    RaiPolicy,
    RaiPolicyContentFilter,
    RaiPolicyProperties,
    Sku,
)

from managed import CONFIG, GROUP, GUEST, NAME, authority, call, management, remove_all
from served import KEY, Served


@pytest.fixture(scope="module", params=["1", "2"])
def served(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, GUEST_KEY=GUEST, MODELPORT_WORKERS=request.param, MODELPORT_TLS_SELF_SIGNED="true")


@pytest.fixture
def sdk(served: Served) -> Iterator[CognitiveServicesManagementClient]:
    with management(served) as client:
        yield client
    remove_all(served)


def gpt(capacity: int = 1, version: str = "1", **properties: Any) -> Deployment:
    model = DeploymentModel(format="OpenAI", name="gpt-4o", version=version)
    return Deployment(
        sku=Sku(name="GlobalStandard", capacity=capacity), properties=DeploymentProperties(model=model, **properties)
    )


def complete(served: Served, deployment: str, key: str = KEY) -> dict[str, str]:
    """A call by azure-ai-inference; the headers of its answer."""
    found: dict[str, str] = {}
    with ChatCompletionsClient(
        f"{served.url}/models", AzureKeyCredential(key), connection_verify=authority(served), retry_total=0
    ) as client:
        answer = client.complete(
            messages=[UserMessage("Hello!")],
            model=deployment,
            raw_response_hook=lambda response: found.update(response.http_response.headers),
        )
    assert answer.choices[0].message.content
    return {name.lower(): value for name, value in found.items()}


@pytest.mark.check(11)
@pytest.mark.check(24)
@pytest.mark.check(126)
def test_the_life_of_a_deployment(served: Served, sdk: CognitiveServicesManagementClient) -> None:
    poller = sdk.deployments.begin_create_or_update(GROUP, NAME, "chat", gpt())
    assert poller.done()
    made = poller.result()
    assert (made.name, made.type) == ("chat", "Microsoft.CognitiveServices/accounts/deployments")
    assert made.properties.provisioning_state == "Succeeded"
    assert complete(served, "chat")["x-ratelimit-limit-tokens"] == "1000"

    changed = sdk.deployments.begin_update(
        GROUP, NAME, "chat", PatchResourceTagsAndSku(sku=Sku(name="GlobalStandard", capacity=5))
    )
    assert changed.result().sku.capacity == 5
    assert {complete(served, "chat")["x-ratelimit-limit-tokens"] for _ in range(4)} == {"5000"}

    again = sdk.deployments.begin_create_or_update(GROUP, NAME, "Chat", gpt(7)).result()
    assert (again.name, again.sku.capacity) == ("chat", 7)
    assert {complete(served, "chat")["x-ratelimit-limit-tokens"] for _ in range(4)} == {"7000"}

    shown = sdk.deployments.get(GROUP, NAME, "CHAT")
    assert {(rule.key, rule.count, rule.renewal_period) for rule in shown.properties.rate_limits} == {
        ("request", 42, 60),
        ("token", 7000, 60),
    }
    assert shown.properties.capabilities["chatCompletion"] == "true"
    assert shown.properties.model.as_dict() == {"format": "OpenAI", "name": "gpt-4o", "version": "1"}
    assert shown.properties.current_capacity == 7
    assert shown.system_data.created_at <= shown.system_data.last_modified_at
    assert {found.name for found in sdk.deployments.list(GROUP, NAME)} == {"chat", "file"}
    assert "GlobalStandard" in {found.sku.name for found in sdk.deployments.list_skus(GROUP, NAME, "chat")}

    before = sdk.accounts.list_keys(GROUP, NAME)
    complete(served, "chat", before.key1)
    complete(served, "chat", before.key2)
    after = sdk.accounts.regenerate_key(GROUP, NAME, "Key1")
    assert (after.key1 != before.key1, after.key2) == (True, before.key2)
    for _ in range(4):
        with pytest.raises(ClientAuthenticationError):
            complete(served, "chat", before.key1)
        complete(served, "chat", after.key1)
    assert sdk.accounts.list_keys(GROUP, NAME).key1 == after.key1

    sdk.deployments.begin_delete(GROUP, NAME, "chat").result()
    with pytest.raises(ResourceNotFoundError) as gone:
        sdk.deployments.get(GROUP, NAME, "chat")
    assert gone.value.error.code == "ResourceNotFound"
    for _ in range(4):
        with pytest.raises(ResourceNotFoundError):
            complete(served, "chat")
    sdk.deployments.begin_delete(GROUP, NAME, "chat").result()


def test_a_model_is_deployed_from_the_entry_of_its_version(
    served: Served, sdk: CognitiveServicesManagementClient
) -> None:
    sdk.deployments.begin_create_or_update(GROUP, NAME, "second", gpt(version="2")).result()
    sdk.deployments.begin_create_or_update(GROUP, NAME, "first", gpt(version="1")).result()
    versions = {found.name: found.properties.model.version for found in sdk.deployments.list(GROUP, NAME)}
    assert versions == {"file": "1", "first": "1", "second": "2"}
    with pytest.raises(HttpResponseError) as refused:
        sdk.deployments.begin_create_or_update(GROUP, NAME, "third", gpt(version="3"))
    assert (refused.value.status_code, refused.value.error.code) == (400, "DeploymentModelNotSupported")
    assert "'OpenAI' '2'" in refused.value.error.message


def test_what_can_be_deployed_and_what_is_used(sdk: CognitiveServicesManagementClient) -> None:
    of_account = list(sdk.accounts.list_models(GROUP, NAME))
    assert ("OpenAI", "gpt-4o", "1", True) in {(m.format, m.name, m.version, m.is_default_version) for m in of_account}
    assert ("OpenAI", "gpt-4o", "2", False) in {(m.format, m.name, m.version, m.is_default_version) for m in of_account}
    here = [found.model.name for found in sdk.models.list("local")]
    assert here == [found.name for found in of_account]
    assert "SmolLM2-135M-Instruct" in here
    sdk.deployments.begin_create_or_update(GROUP, NAME, "chat", gpt(3)).result()
    used = {found.name.value: found.current_value for found in sdk.usages.list("local")}
    assert used["OpenAI.GlobalStandard.gpt-4o"] == 3
    assert {found.name.value for found in sdk.accounts.list_usages(GROUP, NAME).value} == set(used)
    names = {found.properties.name for found in sdk.rai_content_filters.list("local")}
    assert {"Hate", "Sexual", "Violence", "Selfharm", "Jailbreak"} <= names


def test_the_account(served: Served, sdk: CognitiveServicesManagementClient) -> None:
    account = sdk.accounts.get(GROUP, NAME)
    assert (account.name, account.kind, account.location) == (NAME, "AIServices", "local")
    assert account.properties.endpoints["Azure AI Model Inference API"] == f"{served.url}/"
    assert [found.name for found in sdk.accounts.list()] == ["modelport"]
    assert [found.id.split("/")[4] for found in sdk.accounts.list_by_resource_group("mine")] == ["mine"]


def test_tags_are_replaced_and_shown(sdk: CognitiveServicesManagementClient) -> None:
    tagged = gpt()
    tagged.tags = {"team": "a", "cost": "1"}
    assert sdk.deployments.begin_create_or_update(GROUP, NAME, "chat", tagged).result().tags == tagged.tags
    patched = sdk.deployments.begin_update(GROUP, NAME, "chat", PatchResourceTagsAndSku(tags={"team": "b"})).result()
    assert (patched.tags, patched.sku.capacity) == ({"team": "b"}, 1)
    assert not sdk.deployments.begin_create_or_update(GROUP, NAME, "chat", gpt()).result().tags


def test_content_filters_and_blocklists_come_back_as_they_were_sent(sdk: CognitiveServicesManagementClient) -> None:
    words = RaiBlocklist(properties=RaiBlocklistProperties(description="Names"))
    assert sdk.rai_blocklists.create_or_update(GROUP, NAME, "words", words).properties.description == "Names"
    for name, pattern, is_regex in (("one", "apple", False), ("two", "b.{0,9}n", True), ("one", "apples", False)):
        item = RaiBlocklistItem(properties=RaiBlocklistItemProperties(pattern=pattern, is_regex=is_regex))
        made = sdk.rai_blocklist_items.create_or_update(GROUP, NAME, "words", name, item)
        assert (made.name, made.properties.pattern, made.properties.is_regex) == (name, pattern, is_regex)
    items = {found.name: found.properties.pattern for found in sdk.rai_blocklist_items.list(GROUP, NAME, "words")}
    assert items == {"one": "apples", "two": "b.{0,9}n"}
    assert sdk.rai_blocklist_items.get(GROUP, NAME, "words", "two").properties.is_regex is True
    sdk.rai_blocklists.create_or_update(GROUP, NAME, "words", RaiBlocklist(properties=RaiBlocklistProperties()))
    assert len(list(sdk.rai_blocklist_items.list(GROUP, NAME, "words"))) == 2

    filters = [
        RaiPolicyContentFilter(name="Hate", source="Prompt", enabled=True, blocking=True, severity_threshold="Low"),
        RaiPolicyContentFilter(name="Violence", source="Completion", enabled=False, blocking=False),
        RaiPolicyContentFilter(name="Jailbreak", source="Prompt", enabled=True, blocking=False),
        RaiPolicyContentFilter(name="Profanity", source="Completion", enabled=True, blocking=False),
        RaiPolicyContentFilter(
            name="Sexual", source="Completion", enabled=True, blocking=False, severity_threshold="High"
        ),
    ]
    listed = [CustomBlocklistConfig(blocklist_name="words", blocking=True, source="Completion")]
    properties = RaiPolicyProperties(
        mode="Asynchronous_filter", content_filters=filters, custom_blocklists=listed, base_policy_name="Microsoft.Nill"
    )
    sdk.rai_policies.create_or_update(GROUP, NAME, "strict", RaiPolicy(properties=properties))
    shown = sdk.rai_policies.get(GROUP, NAME, "STRICT").properties
    found = {(f.name, f.source): (f.enabled, f.blocking, f.severity_threshold) for f in shown.content_filters}
    assert found["Hate", "Prompt"] == (True, True, "Low")
    assert found["Jailbreak", "Prompt"] == (True, False, None)
    assert found["Sexual", "Completion"] == (True, False, "High")
    assert found["Profanity", "Completion"] == (True, False, None)
    known = ("Hate", "Jailbreak", "Sexual", "Profanity")
    assert not any(on for place, (on, _, _) in found.items() if place[0] not in known)
    assert shown.mode == "Asynchronous_filter"
    assert [(f.blocklist_name, f.source) for f in shown.custom_blocklists] == [("words", "Completion")]
    again = sdk.rai_policies.create_or_update(GROUP, NAME, "strict", RaiPolicy(properties=shown))
    assert again.properties.as_dict() == shown.as_dict()
    built_in = {"Microsoft.Nill", "Microsoft.Default", "Microsoft.DefaultV2"}
    assert {p.name for p in sdk.rai_policies.list(GROUP, NAME)} == {*built_in, "strict"}
    default = sdk.rai_policies.get(GROUP, NAME, "Microsoft.DefaultV2").properties
    found = {(f.name, f.source): (f.enabled, f.blocking, f.severity_threshold) for f in default.content_filters}
    assert found["Violence", "Completion"] == (True, True, "Medium")
    assert found["Jailbreak", "Prompt"] == found["Protected Material Text", "Completion"] == (True, True, None)
    assert found["Profanity", "Prompt"] == (False, False, None)

    sdk.rai_policies.begin_delete(GROUP, NAME, "strict").result()
    sdk.rai_blocklist_items.begin_delete(GROUP, NAME, "words", "one").result()
    assert [i.name for i in sdk.rai_blocklist_items.list(GROUP, NAME, "words")] == ["two"]
    sdk.rai_blocklists.begin_delete(GROUP, NAME, "words").result()
    with pytest.raises(ResourceNotFoundError):
        sdk.rai_blocklists.get(GROUP, NAME, "words")


def test_a_policy_refuses_as_azures_do(served: Served, sdk: CognitiveServicesManagementClient) -> None:
    path = "/admin/v1/policies/small"
    assert call(served, "PUT", path, {"settings": {"max_capacity": 2}}).status == 201
    try:
        sdk.deployments.begin_create_or_update(GROUP, NAME, "x", gpt(capacity=2)).result()
        with pytest.raises(HttpResponseError) as refused:
            sdk.deployments.begin_create_or_update(GROUP, NAME, "x", gpt(capacity=3)).result()
        error = refused.value.error
        assert (refused.value.status_code, error.code) == (403, "RequestDisallowedByPolicy")
        (added,) = error.additional_info
        assert added.type == "PolicyViolation"
        assert added.info["policyDefinitionName"] == "small"
    finally:
        assert call(served, "DELETE", path).status == 204


def test_the_sdk_understands_refusals(served: Served, sdk: CognitiveServicesManagementClient) -> None:
    with pytest.raises(HttpResponseError) as filtered:
        sdk.deployments.begin_create_or_update(GROUP, NAME, "x", gpt(rai_policy_name="absent"))
    assert (filtered.value.status_code, filtered.value.error.code) == (400, "InvalidResourceProperties")
    assert [detail.target for detail in filtered.value.error.details] == ["properties.raiPolicyName"]
    assert (
        sdk.deployments.begin_create_or_update(GROUP, NAME, "x", gpt(rai_policy_name="Microsoft.Nill"))
        .result()
        .properties.rai_policy_name
        == "Microsoft.Nill"
    )
    with pytest.raises(HttpResponseError) as of_the_file:
        sdk.deployments.begin_delete(GROUP, NAME, "file")
    assert of_the_file.value.status_code == 409
    assert ".yaml:" in of_the_file.value.error.message
    with management(served, "no key at all") as stranger, pytest.raises(ClientAuthenticationError) as unknown:
        stranger.accounts.list_keys(GROUP, NAME)
    assert unknown.value.error.code == "AuthenticationFailed"
    with management(served, GUEST) as guest, pytest.raises(HttpResponseError) as denied:
        guest.accounts.list_keys(GROUP, NAME)
    assert (denied.value.status_code, denied.value.error.code) == (403, "AuthorizationFailed")
