"""What each kind of object does to calls once it is made over the API, and how stored objects and a new file agree."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from served import KEY, Answer, Served, eventually

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "providers": {"house": {"type": "scripted"}},
    "deployments": {"script": {"model": MODEL, "provider": "house"}},
}
DEPLOYED: dict[str, Any] = {"model": MODEL, "provider": "house"}
Serve = Callable[..., AbstractContextManager[Served]]


def admin(
    served: Served, method: str, path: str, settings: Any = None, wanted: tuple[int, ...] = (200, 201, 204)
) -> Answer:
    answer = served.call(method, f"/admin/v1/{path}", None if settings is None else {"settings": settings})
    assert answer.status in wanted, (method, path, answer.status, answer.body)
    return answer


def chat(served: Served, model: str | None, key: str = KEY) -> Answer:
    named = {} if model is None else {"model": model}
    return served.call(
        "POST", "/v1/chat/completions", {**named, "messages": [{"role": "user", "content": "Hi"}]}, key=key
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_changed_limit_does_not_forget_what_was_used(serve: Serve, workers: str) -> None:
    with serve(CONFIG, MODELPORT_WORKERS=workers) as served:
        limits = {"requests_per_minute": 2, "tokens_per_minute": None}
        admin(served, "PUT", "deployments/tight", {**DEPLOYED, "limits": limits})
        answered = 0

        def use_up(limit: int) -> None:
            """A worker may hold a part of the limit for a while that another one wants."""
            nonlocal answered

            def is_used_up() -> bool:
                nonlocal answered
                answered += sum(chat(served, "tight").status == 200 for _ in range(2 * limit))
                assert answered <= limit
                return answered == limit

            eventually(is_used_up, f"{limit} calls are answered")

        use_up(2)
        admin(served, "PATCH", "deployments/tight", {"limits": {"requests_per_minute": 5}})
        use_up(5)


def test_the_capacity_is_the_limit_of_an_openai_model(serve: Serve) -> None:
    with serve(CONFIG) as served:
        model = {"format": "OpenAI", "name": "gpt-4o", "version": "2024-08-06"}
        admin(served, "PUT", "deployments/gpt", {"model": model, "provider": "house", "sku": {"capacity": 3}})
        assert chat(served, "gpt").headers["x-ratelimit-limit-tokens"] == "3000"
        admin(served, "PATCH", "deployments/gpt", {"sku": {"capacity": 7}})
        assert chat(served, "gpt").headers["x-ratelimit-limit-tokens"] == "7000"


def test_the_catalogue_makes_a_name_deployable(serve: Serve) -> None:
    with serve(CONFIG) as served:
        named = {"model": {"format": "Mistral AI", "name": "Mistral-large-2411", "version": "2"}}
        refused = admin(served, "PUT", "deployments/mistral", named, (400,))
        assert "Mistral-large-2411" in refused.json["error"]["message"]
        entry = {**named["model"], "provider": "house", "upstream_model": "upstream-name"}
        admin(served, "PUT", "models/mistral", entry)
        twice = admin(served, "PUT", "models/again", entry, (400,))
        assert "in the catalogue twice" in twice.json["error"]["message"]
        admin(served, "PUT", "deployments/mistral", named)
        assert chat(served, "mistral").json["model"] == "Mistral-large-2411"
        used = admin(served, "DELETE", "models/mistral", wanted=(409,))
        assert "deployments 'mistral'" in used.json["error"]["message"]
        admin(served, "DELETE", "deployments/mistral")
        admin(served, "DELETE", "models/mistral")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_price_counts_from_the_next_call_on(serve: Serve, workers: str) -> None:
    with serve(CONFIG, MODELPORT_WORKERS=workers) as served:
        chat(served, "script")
        admin(served, "PUT", "prices/script", {"deployment": "script", "input": "0", "output": "0", "request": "0.25"})
        assert [chat(served, "script").status for _ in range(4)] == [200] * 4
        same = admin(served, "PUT", "prices/other", {"deployment": "SCRIPT", "request": "0.50"}, (400,))
        assert "two prices" in same.json["error"]["message"]
        admin(served, "PUT", "prices/wrong", {"deployment": "script", "request": 0.5}, (400,))
        admin(served, "PUT", "prices/wrong", {"request": "1"}, (400,))
        admin(served, "PATCH", "prices/script", {"request": "1"})
        chat(served, "script")
        admin(served, "DELETE", "prices/script")
        chat(served, "script")
        records = served.call("GET", "/admin/v1/usage/records").json["records"]
        costs = [None if found["cost"] is None else Decimal(found["cost"]) for found in records]
        quarter = Decimal("0.25")
        assert sorted(cost for cost in costs if cost) == [*[quarter] * 4, Decimal(1)]
        assert len(costs) == 7


def test_what_needs_a_restart_is_not_stored(serve: Serve) -> None:
    with serve(CONFIG, MODELPORT_WORKERS="2") as served:
        refused = admin(served, "PUT", "prices/hours", {"deployment": "script", "per_hour": "1"}, (409,))
        assert "needs a restart" in refused.json["error"]["message"]
        admin(served, "GET", "prices/hours", wanted=(404,))
        admin(served, "PUT", "deployments/mine", DEPLOYED)
        assert chat(served, "mine").status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_project_with_a_budget(serve: Serve, workers: str) -> None:
    with serve(CONFIG, MODELPORT_WORKERS=workers) as served:
        admin(served, "PUT", "projects/research", {"budget": {"tokens": 1_000_000}})
        admin(served, "PUT", "deployments/mine", DEPLOYED)
        key = admin(served, "PUT", "keys/team", {"project": "research"}).json["secrets"]["key1"]
        assert chat(served, "script", key).status == 200
        assert "keys 'team'" in admin(served, "DELETE", "projects/research", wanted=(409,)).json["error"]["message"]
        admin(served, "PUT", "keys/other", {"project": "nowhere"}, (400,))
        admin(served, "PATCH", "deployments/mine", {"budget": {"tokens": 1_000_000}})
        assert {chat(served, "mine").status for _ in range(4)} == {200}
        admin(served, "PATCH", "projects/research", {"budget": {"tokens": 1}})
        assert chat(served, "script", key).status in (400, 429)
        admin(served, "PATCH", "keys/team", {"project": None})
        admin(served, "DELETE", "projects/research")
        assert chat(served, "script", key).status == 200


def test_filters_and_lists_are_kept_and_checked(serve: Serve) -> None:
    with serve(CONFIG) as served:
        admin(served, "PUT", "blocklists/house", {"items": [{"exact": "chopping tomatoes"}, {"regex": "project\\s+x"}]})
        admin(served, "PUT", "blocklists/wrong", {"items": [{"regex": "("}]}, (400,))
        admin(served, "PUT", "content_filters/strict", {"prompt": {"hate": "low", "blocklists": ["house"]}})
        wrong = admin(served, "PUT", "content_filters/wrong", {"prompt": {"hate": "lots"}}, (400,))
        assert wrong.json["error"]["details"][0]["target"] == "prompt.hate"
        assert (
            "content_filters 'strict'"
            in admin(served, "DELETE", "blocklists/house", wanted=(409,)).json["error"]["message"]
        )
        admin(served, "PUT", "deployments/mine", {**DEPLOYED, "content_filter": "absent"}, (400,))


def test_the_default_deployment_moves(serve: Serve) -> None:
    with serve(CONFIG) as served:
        admin(served, "PUT", "deployments/first", {**DEPLOYED, "default": True, "answers_as": "deployment"})
        assert chat(served, None).json["model"] == "first"
        assert "default" in admin(served, "DELETE", "deployments/first", wanted=(409,)).json["error"]["message"]
        second = {**DEPLOYED, "default": True, "answers_as": "deployment"}
        assert "default already" in admin(served, "PUT", "deployments/second", second, (400,)).json["error"]["message"]
        admin(served, "PATCH", "deployments/first", {"default": False})
        admin(served, "PUT", "deployments/second", second)
        assert chat(served, None).json["model"] == "second"
        admin(served, "DELETE", "deployments/first")


def reloaded(served: Served, config: dict[str, Any], said: str) -> None:
    """The server has taken up the file, or refused it."""
    before = served.stderr().count(said)
    (served.data_dir.parent / f"{served.data_dir.name}.yaml").write_text(json.dumps(config))
    served.process.send_signal(signal.SIGHUP)
    eventually(lambda: served.stderr().count(said) > before, said)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_file_and_stored_objects_agree(serve: Serve, workers: int) -> None:
    config = {**CONFIG, "server": {"workers": workers}}
    with serve(config) as served:
        admin(served, "PUT", "deployments/mine", {**DEPLOYED, "answers_as": "deployment"})
        taken, refused = "the configuration as it is now is served", "the server goes on as it was"
        reloaded(served, {**config, "deployments": {"other": DEPLOYED}}, taken)
        for _ in range(4):
            assert [chat(served, name).status for name in ("mine", "other", "script")] == [200, 200, 404]
        another = {"providers": {"another": {"type": "scripted"}}}
        reloaded(served, {**config, **another, "deployments": {"other": {**DEPLOYED, "provider": "another"}}}, refused)
        assert "control plane: deployments.mine.provider: there is no provider 'house'" in served.stderr()
        assert chat(served, "mine").status == 200
        assert admin(served, "GET", "deployments/other").json["origin"] == "file"
        # The file has the same name now: it wins, and the stored one comes back when it has not.
        reloaded(served, {**config, "deployments": {"MINE": DEPLOYED}}, taken)
        assert [chat(served, "mine").json["model"] for _ in range(4)] == ["script"] * 4
        assert "stored deployments 'mine' is passed over" in served.stderr()
        admin(served, "DELETE", "deployments/mine", wanted=(409,))
        reloaded(served, config, taken)
        assert [chat(served, "mine").json["model"] for _ in range(4)] == ["mine"] * 4
        admin(served, "DELETE", "deployments/mine")


def test_a_stored_object_that_does_not_fit_the_file_is_named_at_the_start(serve: Serve) -> None:
    with serve(CONFIG) as served:
        admin(served, "PUT", "deployments/mine", DEPLOYED)
    another = {"deployments": {"other": {"model": MODEL, "provider": {"type": "scripted"}}}}
    with pytest.raises(AssertionError, match="there is no provider"), serve(another):
        pass


def test_what_is_built_in_stays_beside_what_is_made(serve: Serve, data_dir: Path, weights: Path) -> None:
    (data_dir / "models").symlink_to(weights / "models")
    with serve({"engine": {"load": "first_use"}}) as served:
        found = admin(served, "GET", "deployments").json["value"]
        built_in = {item["name"] for item in found if item["origin"] == "built_in"}
        assert built_in
        admin(served, "PUT", "deployments/mine", {"model": MODEL, "provider": {"type": "scripted"}})
        names = {item["name"] for item in served.call("GET", "/health/ready").json["deployments"]}
        assert names == {*built_in, "mine"}
        refused = admin(served, "DELETE", f"deployments/{min(built_in)}", wanted=(409,))
        assert "built in" in refused.json["error"]["message"]
