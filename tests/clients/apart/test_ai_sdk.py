"""The Vercel AI SDK through each of its providers, and openai for JavaScript: content filters, whole and streamed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clients.deployments import CAREFUL, CAREFUL_LATER, TOMATOES
from clients.serving import Server

FOLDER = Path(__file__).parents[1] / "ai-sdk"
REASONS = {"openai-js": "content_filter"}
"""What a client calls it; the SDK writes a hyphen."""
CLIENTS = pytest.mark.parametrize("client", ["openai", "azure", "compatible", "openai-js"])


def talk(server: Server, client: str, deployment: str, question: str) -> Any:
    environment = {**os.environ, "BASE_URL": server.url, "API_KEY": server.key}
    done = subprocess.run(
        ["node", "talk.mjs", client, deployment, question],
        cwd=FOLDER, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@CLIENTS
@pytest.mark.check(107, 108)
def test_a_blocked_prompt(server: Server, client: str) -> None:
    answer = talk(server, client, CAREFUL, "Chopping tomatoes is great.")
    assert answer["status"] == 400
    assert "content management policy" in answer["message"]


@CLIENTS
@pytest.mark.check(109, 110)
def test_a_blocked_answer(server: Server, client: str) -> None:
    answer = talk(server, client, CAREFUL, "How do I cook?")
    expected = ["Take a knife. ", REASONS.get(client, "content-filter")]
    assert answer == {"streamed": expected, "whole": expected}


@CLIENTS
def test_chunks_of_an_asynchronous_filter(server: Server, client: str) -> None:
    answer = talk(server, client, CAREFUL_LATER, "How do I cook?")
    assert answer == {"streamed": [TOMATOES, "stop"], "whole": [TOMATOES, "stop"]}
