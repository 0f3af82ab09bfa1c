"""`modelport import`: what Azure and LiteLLM have becomes a configuration that is valid, and the rest is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from typer.testing import CliRunner, Result

from modelport.cli.importing.arm_expressions import Scope, Unknown
from modelport.cli.importing.azure import SKUS, import_azure
from modelport.cli.importing.litellm import import_litellm
from modelport.cli.importing.result import NotImportable
from modelport.cli.main import app
from modelport.cli.output import ExitCode
from modelport.config.deployments import SkuName
from modelport.config.document import read_document
from modelport.config.load import parse
from modelport.config.settings import Settings

ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/contoso"


def run(*arguments: str) -> Result:
    ended = CliRunner().invoke(app, ["import", *arguments])
    assert isinstance(ended.exception, SystemExit | None), ended.exception
    return ended


def valid(configuration: Any) -> Settings:
    """The settings that it gives, with no secret read."""
    document = read_document(yaml.safe_dump(configuration).encode(), "made")
    return parse(document, None, {"HOME": "/h"}, with_secrets=False).settings


def printed(name: str, model: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A deployment as az prints it."""
    properties = {"model": {"source": None, **model}, "provisioningState": "Succeeded", **more.pop("properties", {})}
    return {
        "id": f"{ACCOUNT}/deployments/{name}",
        "name": name,
        "type": "Microsoft.CognitiveServices/accounts/deployments",
        "etag": '"e"',
        "sku": {"name": "GlobalStandard", "capacity": 50, "tier": None},
        "systemData": {},
        "tags": None,
        "properties": properties,
        **more,
    }


CHAT = printed(
    "chat",
    {"format": "OpenAI", "name": "gpt-4o", "version": "2024-11-20"},
    tags={"team": "search"},
    properties={
        "rateLimits": [
            {"key": "request", "renewalPeriod": 10, "count": 50},
            {"key": "token", "renewalPeriod": 60, "count": 50000},
        ],
        "raiPolicyName": "Microsoft.DefaultV2",
        "versionUpgradeOption": "NoAutoUpgrade",
        "spilloverDeploymentName": "Mistral-large",
    },
)
MISTRAL = printed(
    "Mistral-large",
    {"format": "Mistral AI", "name": "Mistral-large", "version": "2"},
    sku={"name": "X", "capacity": "1"},
)


@pytest.mark.parametrize(
    "document", [[CHAT, MISTRAL], {"value": [CHAT, MISTRAL], "nextLink": None}], ids=["list", "page"]
)
def test_what_az_prints(document: Any) -> None:
    found = import_azure(document, {}, None)
    assert found.configuration["deployments"] == {
        "chat": {
            "model": {"format": "OpenAI", "name": "gpt-4o", "version": "2024-11-20"},
            "sku": {"name": "GlobalStandard", "capacity": 50},
            "targets": [{"provider": "contoso", "model": "chat"}],
            "limits": {"requests_per_minute": 300, "tokens_per_minute": 50000},
            "spillover": "Mistral-large",
            "tags": {"team": "search"},
        },
        "Mistral-large": {
            "model": {"format": "Mistral AI", "name": "Mistral-large", "version": "2"},
            "sku": {"capacity": 1},
            "provider": "contoso-models",
        },
    }
    providers = found.configuration["providers"]
    assert providers["contoso"]["base_url"] == "https://contoso.openai.azure.com/openai/v1"
    assert providers["contoso-models"]["base_url"] == "https://contoso.services.ai.azure.com/models"
    noted = dict(found.notes)
    assert noted["chat.raiPolicyName"].startswith("Microsoft.DefaultV2: content filters")
    assert "chat.versionUpgradeOption" not in noted
    assert "X is no capacity type" in noted["Mistral-large.sku.name"]
    settings = valid(found.configuration)
    assert settings.deployments["chat"].spillover == "Mistral-large"


def test_one_deployment_of_an_unknown_account() -> None:
    one = {**CHAT, "id": None}
    found = import_azure(one, {}, None)
    assert "ACCOUNT.openai" in found.configuration["providers"]["ACCOUNT"]["base_url"]
    assert any("--account" in what for _, what in found.notes)
    assert "spillover" not in found.configuration["deployments"]["chat"]
    named = import_azure(one, {}, "fabrikam")
    assert named.configuration["providers"]["fabrikam"]["base_url"].startswith("https://fabrikam.openai")
    valid(named.configuration)


def template(resources: Any, **more: Any) -> dict[str, Any]:
    schema = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
    return {"$schema": schema, "contentVersion": "1.0.0.0", "resources": resources, **more}


BICEP = template(
    {
        "account": {
            "type": "Microsoft.CognitiveServices/accounts",
            "apiVersion": "2025-06-01",
            "name": "[parameters('accountName')]",
            "kind": "AIServices",
            "sku": {"name": "S0"},
            "properties": {"disableLocalAuth": True, "publicNetworkAccess": "Enabled"},
        },
        "models": {
            "copy": {"name": "models", "count": "[length(parameters('models'))]", "mode": "serial", "batchSize": 1},
            "type": "Microsoft.CognitiveServices/accounts/deployments",
            "apiVersion": "2025-06-01",
            "name": "[format('{0}/{1}', parameters('accountName'), parameters('models')[copyIndex()].name)]",
            "sku": {"name": "[variables('sku')]", "capacity": "[parameters('models')[copyIndex()].capacity]"},
            "properties": {"model": {"format": "OpenAI", "name": "[parameters('models')[copyIndex()].name]"}},
        },
        "filter": {
            "type": "Microsoft.CognitiveServices/accounts/raiPolicies",
            "name": "[concat(parameters('accountName'), '/strict')]",
            "properties": {"mode": "Blocking"},
        },
        "off": {
            "condition": "[equals(variables('sku'), 'none')]",
            "type": "Microsoft.CognitiveServices/accounts/deployments",
            "name": "[format('{0}/off', parameters('accountName'))]",
            "properties": {"model": {"name": "x"}},
        },
    },
    parameters={
        "accountName": {"type": "string"},
        "models": {
            "type": "array",
            "defaultValue": [{"name": "gpt-4o", "capacity": 10}, {"name": "o3", "capacity": 2}],
        },
    },
    variables={"sku": "DataZoneStandard"},
    languageVersion="2.0",
)


def test_a_template_that_bicep_has_built() -> None:
    found = import_azure(BICEP, {"accountName": "contoso"}, None)
    assert found.configuration["deployments"] == {
        name: {
            "model": {"format": "OpenAI", "name": name},
            "sku": {"name": "DataZoneStandard", "capacity": capacity},
            "provider": "contoso",
        }
        for name, capacity in (("gpt-4o", 10), ("o3", 2))
    }
    assert ("contoso/strict", "is a raipolicies, which has no counterpart") in found.notes
    assert any(place == "contoso.disableLocalAuth" for place, _ in found.notes)
    valid(found.configuration)
    with pytest.raises(NotImportable, match="parameters\\('accountName'\\): give it a value with --parameter"):
        import_azure(BICEP, {}, None)


def test_a_module_and_a_resource_inside_another() -> None:
    inner = template(
        [
            {
                "type": "Microsoft.CognitiveServices/accounts",
                "name": "[parameters('name')]",
                "resources": [
                    {
                        "type": "deployments",
                        "name": "gpt-4o",
                        "sku": {"name": "Standard", "capacity": 3},
                        "properties": {"model": {"format": "OpenAI", "name": "gpt-4o", "version": "1"}},
                    }
                ],
            }
        ],
        parameters={"name": {"type": "string"}},
    )
    module = {
        "type": "Microsoft.Resources/deployments",
        "name": "ai",
        "properties": {"template": inner, "parameters": {"name": {"value": "[toLower('CONTOSO')]"}}},
    }
    found = import_azure(template([module, {"type": "Microsoft.Storage/storageAccounts", "name": "files"}]), {}, None)
    assert found.configuration["deployments"]["gpt-4o"]["provider"] == "contoso"
    assert ("files", "is a storageaccounts, which has no counterpart") in found.notes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("[[not one]", "[not one]"),
        ("[concat('it''s ', string(2))]", "it's 2"),
        ("[if(empty(parameters('list')), 'none', parameters('list')[1].name)]", "two"),
        ("[variables('nested').deep[0]]", "two"),
        ("[if(contains(parameters('list')[0], 'filter'), parameters('list')[0].filter, null())]", None),
        ("[take(replace(toLower(concat('AI-', uniqueString(resourceGroup().id))), '-', ''), 8)]", "ai0uniqu"),
        (
            "[union(createObject('a', 1), createObject('b', tryGet(parameters('list')[0], 'absent', 'x')))]",
            {"a": 1, "b": None},
        ),
    ],
)
def test_an_expression_has_a_value(text: str, value: Any) -> None:
    scope = Scope({"list": [{"name": "one"}, {"name": "two"}]}, {"nested": {"deep": ["[parameters('list')[1].name]"]}})
    assert scope.value(text) == value


@pytest.mark.parametrize("text", ["[reference('x').id]", "[parameters('absent')]", "[1 + 2]", "[concat('a']", "[']"])
def test_an_expression_without_a_value_says_so(text: str) -> None:
    with pytest.raises(Unknown):
        Scope({}, {}).value(text)


def test_an_account_with_a_unique_name_is_named_by_hand() -> None:
    name = "[format('{0}/{1}', format('ai-{0}', uniqueString(resourceGroup().id)), 'gpt-4o')]"
    properties = {"model": {"format": "OpenAI", "name": "gpt-4o", "version": "1"}}
    kind = "Microsoft.CognitiveServices/accounts/deployments"
    source = template([{"type": kind, "name": name, "properties": properties}])
    found = import_azure(source, {}, None)
    assert any("--account" in what for _, what in found.notes)
    named = import_azure(source, {}, "ai-x7")
    assert named.configuration["providers"]["ai-x7"]["base_url"] == "https://ai-x7.openai.azure.com/openai/v1"
    assert not any("--account" in what for _, what in named.notes)


def test_the_capacity_types_are_the_configurations() -> None:
    assert get_args(SkuName) == SKUS


def test_the_azure_command_writes_and_lists(tmp_path: Path) -> None:
    source, made = tmp_path / "deployments.json", tmp_path / "modelport.yaml"
    source.write_bytes(json.dumps([CHAT, MISTRAL]).encode("utf-16"))  # as PowerShell's `>` writes it
    ended = run("azure", str(source), "--output", str(made))
    assert ended.exit_code == 0, ended.output
    assert "2 deployments" in ended.stdout
    assert "chat.raiPolicyName: Microsoft.DefaultV2" in ended.stderr
    checked = CliRunner().invoke(app, ["check", str(made), "--without-secrets"])
    assert checked.exit_code == 0, checked.output
    assert run("azure", str(source), "--output", str(made)).exit_code == ExitCode.USAGE  # it is there already
    assert run("azure", str(source), "-o", str(made), "--yes").exit_code == 0
    shown = json.loads(run("azure", str(source), "--json").stdout)
    assert shown["configuration"] == yaml.safe_load(made.read_text())
    assert yaml.safe_load(run("azure", str(source)).stdout) == shown["configuration"]
    bicep = run("azure", "main.bicep")
    assert bicep.exit_code == ExitCode.CONFIG_INVALID
    assert "az bicep build --file main.bicep" in bicep.stderr
    for wrong in ("not JSON", "{}", "[]"):
        source.write_text(wrong)
        assert run("azure", str(source)).exit_code == ExitCode.CONFIG_INVALID
    assert run("azure", str(tmp_path / "absent.json")).exit_code == ExitCode.CONFIG_INVALID


LITELLM = """
model_list:
- model_name: gpt-4o
  litellm_params:
    model: azure/gpt-4o-eu
    api_base: https://eu.openai.azure.com/
    api_key: os.environ/EU_KEY
    api_version: "2024-10-21"
    rpm: 6
    tpm: 1000
- model_name: gpt-4o
  litellm_params:
    {model: azure/gpt-4o-us, api_base: os.environ/US_BASE, api_key: os.environ/US_KEY, rpm: 4, tpm: 500, weight: 3}
- model_name: local
  litellm_params: {model: hosted_vllm/qwen, api_base: "http://10.0.0.5:8000/v1", temperature: 0.2, timeout: 30}
- model_name: org/embed
  litellm_params: {model: text-embedding-3-small, api_key: sk-literal}
  model_info: {mode: embedding, input_cost_per_token: 0.00000002}
- {model_name: claude, litellm_params: {model: anthropic/claude-sonnet-4, api_key: os.environ/ANTHROPIC}}
- {model_name: "groq/*", litellm_params: {model: groq/*}}
- {model_name: dall-e, litellm_params: {model: dall-e-3}, model_info: {mode: image_generation}}
router_settings:
  routing_strategy: latency-based-routing
  model_group_alias: {gpt-4: gpt-4o}
  redis_host: os.environ/REDIS_HOST
litellm_settings:
  {drop_params: true, fallbacks: [{gpt-4o: [local, claude]}], callbacks: [langfuse], request_timeout: 120}
general_settings: {master_key: os.environ/LITELLM_MASTER_KEY, database_url: "postgresql://u:p@h/d"}
guardrails: []
"""


def test_litellms_applications_of_entra_become_credentials() -> None:
    azure = {"model": "azure/gpt-4o", "api_base": "https://eu.openai.azure.com", "tenant_id": "tenant"}
    entries = [
        {**azure, "client_id": "os.environ/CLIENT", "client_secret": "os.environ/SECRET"},
        {**azure, "client_id": "us", "client_secret": "written-here"},
        {**azure, "azure_ad_token": "os.environ/TOKEN"},
    ]
    listed = [{"model_name": f"m{index}", "litellm_params": entry} for index, entry in enumerate(entries)]
    found = import_litellm({"model_list": listed}, {})
    providers = found.configuration["providers"]
    assert [provider.get("credential") for provider in providers.values()] == [
        {"type": "client_secret", "tenant_id": "tenant", "client_id": "env:CLIENT", "client_secret": "env:SECRET"},
        {"type": "client_secret", "tenant_id": "tenant", "client_id": "us", "client_secret": "env:AZURE_CLIENT_SECRET"},
        None,
    ]
    assert "api_key" not in providers["azure"]
    noted = dict(found.notes)
    assert "AZURE_CLIENT_SECRET" in noted["model_list[1].litellm_params.client_secret"]
    assert "credential" in noted["model_list[2].litellm_params.azure_ad_token"]
    assert "written-here" not in str(found)


def test_litellms_entries_become_targets(tmp_path: Path) -> None:
    found = import_litellm(yaml.safe_load(LITELLM), {"US_BASE": "https://us.openai.azure.com"})
    configuration = found.configuration
    assert configuration["providers"] == {
        "azure": {
            "type": "openai_compatible",
            "host": "azure_openai",
            "base_url": "https://eu.openai.azure.com/openai/v1",
            "api_key": "env:EU_KEY",
        },
        "azure-2": {
            "type": "openai_compatible",
            "host": "azure_openai",
            "base_url": "https://us.openai.azure.com/openai/v1",
            "api_key": "env:US_KEY",
        },
        "hosted_vllm": {"type": "openai_compatible", "host": "vllm", "base_url": "http://10.0.0.5:8000/v1"},
        "openai": {"type": "openai_compatible", "host": "openai", "api_key": "env:OPENAI_KEY"},
    }
    gpt = configuration["deployments"]["gpt-4o"]
    assert gpt["targets"] == [
        {"provider": "azure", "model": "gpt-4o-eu"},
        {"provider": "azure-2", "model": "gpt-4o-us", "weight": 3},
        {"provider": "hosted_vllm", "model": "qwen", "priority": 1},
    ]
    assert gpt["limits"] == {"requests_per_minute": 10, "tokens_per_minute": 1500, "concurrent_requests": None}
    assert gpt["timeouts"] == {"whole": 120}
    local = configuration["deployments"]["local"]
    assert (local["provider"], local["timeouts"], local["limits"]["tokens_per_minute"]) == (
        "hosted_vllm",
        {"whole": 30},
        None,
    )
    assert configuration["deployments"]["gpt-4"]["targets"] == gpt["targets"]
    assert set(configuration["deployments"]) == {"gpt-4o", "local", "org-embed", "gpt-4"}
    assert configuration["extra_parameters"] == "drop"
    assert configuration["auth"] == {"keys": ["env:LITELLM_MASTER_KEY"]}
    noted = dict(found.notes)
    assert "no adapter speaks to 'anthropic'" in noted["model_list[4]"]
    assert "name each" in noted["model_list[5]"]
    assert "image_generation is not served" in noted["model_list[6]"]
    assert noted["org/embed"] == "is called org-embed here; callers ask for that"
    assert "OPENAI_KEY" in noted["model_list[3].litellm_params.api_key"]
    assert {"model_list[2].litellm_params.temperature", "guardrails", "general_settings.database_url"} <= set(noted)
    assert {"router_settings.routing_strategy", "router_settings.redis_host", "litellm_settings.callbacks"} <= set(
        noted
    )
    assert "claude is not among the models" in noted["fallbacks.gpt-4o"]
    assert "sk-literal" not in json.dumps(configuration) + json.dumps(found.notes)
    valid(configuration)


def test_litellms_usual_variables_are_named() -> None:
    entries = [
        {"model_name": "a", "litellm_params": {"model": "gpt-4o"}},
        {"model_name": "b", "litellm_params": {"model": "groq/llama"}},
        {"model_name": "c", "litellm_params": {"model": "openai/x", "api_base": "http://127.0.0.1:9/v1"}},
        {"model_name": "d", "litellm_params": {"model": "azure/", "api_base": "https://x.openai.azure.com"}},
    ]
    found = import_litellm({"model_list": entries}, {})
    providers = found.configuration["providers"]
    assert [provider.get("api_key") for provider in providers.values()] == [
        "env:OPENAI_API_KEY",
        "env:GROQ_API_KEY",
        None,
    ]
    assert dict(found.notes)["model_list[3]"] == "d: it names no model"
    valid(found.configuration)


def test_the_litellm_command(tmp_path: Path) -> None:
    source, made = tmp_path / "config.yaml", tmp_path / "modelport.yaml"
    source.write_text(LITELLM)
    ended = run("litellm", str(source), "-o", str(made))
    assert ended.exit_code == 0, ended.output
    assert "US_BASE, which is not set here" in ended.stderr
    assert "&id" not in made.read_text()
    checked = CliRunner().invoke(app, ["check", str(made), "--without-secrets"])
    assert checked.exit_code == 0, checked.output
    for wrong in ("model_list: []", "other: 1", "model_list: [{model_name: a, litellm_params: {model: bedrock/x}}]"):
        source.write_text(wrong)
        assert run("litellm", str(source)).exit_code == ExitCode.CONFIG_INVALID
