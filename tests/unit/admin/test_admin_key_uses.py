"""When each key was used last: counted by every process, kept over a restart, and forgotten with the key's value."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from served import Served, eventually

MODEL = {"format": "Custom", "name": "script", "version": "1"}
FILE_KEY = "key-of-the-file-31"
CONFIG: dict[str, Any] = {
    "deployments": {"script": {"model": MODEL, "provider": {"type": "scripted"}, "default": True}},
    "keys": {"File": {"key1": "env:FILE_KEY"}},
}


def used(served: Served, name: str) -> dict[str, datetime]:
    """What the list says, which is what the entry by itself says."""
    listed = served.call("GET", "/admin/v1/keys").json["value"]
    found = next(entry for entry in listed if entry["name"] == name)
    assert set(served.call("GET", f"/admin/v1/keys/{name}").json["last_used_at"]) >= set(found["last_used_at"])
    return {slot: datetime.fromisoformat(text) for slot, text in found["last_used_at"].items()}


def ask(served: Served, key: str) -> int:
    body = {"model": "script", "messages": [{"role": "user", "content": "Hi"}]}
    return served.call("POST", "/v1/chat/completions", body, key=key).status


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_last_use_of_each_key(serve: Callable[..., AbstractContextManager[Served]], workers: str) -> None:
    environment = {"FILE_KEY": FILE_KEY, "MODELPORT_WORKERS": workers}
    with serve(CONFIG, **environment) as served:
        served.ready()
        begin = datetime.now(UTC) - timedelta(seconds=1)
        made = served.call("PUT", "/admin/v1/keys/Team", {"settings": {}}).json
        first = made["secrets"]["key1"]
        second = served.call("POST", "/admin/v1/keys/team/regenerate", {"key": "key2"}).json["secrets"]["key2"]
        assert (used(served, "Team"), used(served, "File")) == ({}, {})
        assert [ask(served, key) for key in (first, second, FILE_KEY, "another")] == [200, 200, 200, 401]
        eventually(lambda: set(used(served, "Team")) == {"key1", "key2"}, "both keys were used")
        eventually(lambda: set(used(served, "File")) == {"key1"}, "the file's key was used")
        before = used(served, "Team")
        assert all(begin < time <= datetime.now(UTC) for time in before.values())
        assert served.call("GET", "/v1/models", key=second).status == 200  # no call, and a use
        eventually(lambda: used(served, "Team")["key2"] > before["key2"], "a later use")
        assert ask(served, first) == 200  # a head that is known already
        eventually(lambda: used(served, "Team")["key1"] > before["key1"], "a later call")
        third = served.call("POST", "/admin/v1/keys/team/regenerate", {"key": "key2"}).json["secrets"]["key2"]
        assert set(used(served, "Team")) == {"key1"}
        assert ask(served, third) == 200
        eventually(lambda: set(used(served, "Team")) == {"key1", "key2"}, "the new value was used")
        last = used(served, "Team")
        assert served.call("PUT", "/admin/v1/keys/Team", {**made, "secrets": {}, "settings": {}}).status == 200
        served.terminate()
        served.ended()
    with serve(CONFIG, **environment) as served:
        served.ready()
        assert used(served, "Team") == last
        assert set(used(served, "File")) == {"key1"}
        assert served.call("PATCH", "/admin/v1/keys/team", {"settings": {"key1": None}}).status == 200
        assert set(used(served, "Team")) == {"key2"}
        assert served.call("DELETE", "/admin/v1/keys/TEAM").status == 204
        assert served.call("PUT", "/admin/v1/keys/team", {"settings": {}}).status == 201
        assert used(served, "team") == {}
