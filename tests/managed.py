"""A server whose management API is called: over TLS, with a catalogue."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any

from azure.core.credentials import AccessToken
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient

from served import KEY, Answer, Served

CONFIG: dict[str, Any] = {
    "providers": {"house": {"type": "scripted"}},
    "models": [
        {"format": "OpenAI", "name": "gpt-4o", "version": "1", "provider": "house"},
        {"format": "OpenAI", "name": "gpt-4o", "version": "2", "provider": "house", "upstream_model": "second"},
        {"format": "Custom", "name": "script", "provider": "house"},
    ],
    "deployments": {"file": {"model": {"name": "script"}, "provider": "house", "default": True}},
    "keys": {"guest": {"key1": "env:GUEST_KEY"}},
}
GUEST = "key-of-a-guest-77"
GROUP, NAME = "rg", "acct"
ACCOUNT = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/acct"
GPT: dict[str, Any] = {
    "sku": {"name": "GlobalStandard", "capacity": 1},
    "properties": {"model": {"format": "OpenAI", "name": "gpt-4o", "version": "1"}},
}


class StaticCredential:
    """A TokenCredential that always gives an operator's key."""

    def __init__(self, key: str = KEY) -> None:
        self._key = key

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(self._key, 2**40)


def authority(served: Served) -> str:
    """The file of the certificate authority."""
    return str(served.data_dir / "tls" / "ca.pem")


def management(served: Served, key: str = KEY, **options: Any) -> CognitiveServicesManagementClient:
    """Azure's SDK, as it is. It does not repeat what fails, unless `options` say so."""
    return CognitiveServicesManagementClient(
        StaticCredential(key),
        "s",
        base_url=served.url,
        credential_scopes=["https://management.azure.com/.default"],
        connection_verify=authority(served),
        **{"retry_total": 0, **options},
    )


def call(
    served: Served,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request over TLS; the key goes as a bearer token."""
    context = ssl.create_default_context(cafile=authority(served))
    sent = {"content-type": "application/json", "connection": "close", **(headers or {})}
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    with contextlib.closing(http.client.HTTPSConnection(*served.address, context=context, timeout=60)) as connection:
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def of_account(served: Served, method: str, path: str, body: Any = None, **more: Any) -> Answer:
    """A request below the account."""
    return call(served, method, f"{ACCOUNT}/{path}?api-version=2025-06-01", body, **more)


def remove_all(served: Served) -> None:
    """Removes what tests have made."""
    for kind in ("deployments", "content_filters", "blocklists", "models", "providers"):
        for found in call(served, "GET", f"/admin/v1/{kind}").json["value"]:
            if found["origin"] == "store":
                assert call(served, "DELETE", f"/admin/v1/{kind}/{found['name']}").status == 204
