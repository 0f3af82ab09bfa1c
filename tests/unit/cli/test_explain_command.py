"""`modelport explain`: what a call would do, from a running server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from modelport.cli.main import app
from modelport.cli.output import ExitCode
from served import Served

CONFIG: dict[str, Any] = {
    "deployments": {
        "script": {
            "model": {"format": "Custom", "name": "script"},
            "provider": {"type": "scripted"},
            "limits": {"tokens_per_minute": 900, "requests_per_minute": 9},
            "default": True,
        }
    }
}
REQUEST = {"model": "script", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 7, "seed": 1}


def command(served: Served, data_dir: Path, *arguments: str, given: str | None = None) -> Result:
    inherited: dict[str, str | None] = {name: None for name in os.environ if name.startswith("MODELPORT_")}
    here = {"MODELPORT_DATA_DIR": str(data_dir), "MODELPORT_ENDPOINT": served.url, "MODELPORT_API_KEY": served.key}
    ended = CliRunner().invoke(app, ["explain", *arguments], env={**inherited, **here}, input=given)
    assert isinstance(ended.exception, SystemExit | None)
    return ended


def test_a_request_is_explained_and_not_made(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(REQUEST))
    with serve(CONFIG) as served:
        told = command(served, data_dir, str(file))
        assert told.exit_code == 0, told.output
        lines = told.stdout.splitlines()
        assert "deployment  script (named by: body)" in lines
        assert "kept        max_tokens" in lines
        assert "ignored     seed" in lines
        assert any(line.startswith("script") and line.split()[1:] == ["9", "9", "900", "900"] for line in lines)
        assert max(map(len, lines)) <= 80
        found = json.loads(command(served, data_dir, "-", "--json", given=json.dumps(REQUEST)).stdout)
        assert (found["deployment"]["name"], found["tokens"]["completion"]) == ("script", 7)
        missing = command(served, data_dir, str(file), "--deployment", "nobody")
        assert missing.exit_code == ExitCode.NOT_FOUND
        assert "does not exist" in missing.stderr
        assert served.metric("modelport_requests_total", deployment="script") == 0


def test_what_is_no_request_ends_with_what_is_wrong(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path, tmp_path: Path
) -> None:
    with serve(CONFIG) as served:
        for text, words in (("{", "no JSON"), ("[]", "no JSON object"), ('{"model": "x"}', "messages, prompt, input")):
            ended = command(served, data_dir, "-", given=text)
            assert ended.exit_code == ExitCode.USAGE
            assert words in ended.stderr
        ended = command(served, data_dir, str(tmp_path / "nothing.json"))
        assert ended.exit_code == ExitCode.USAGE
        assert "cannot be read" in ended.stderr
