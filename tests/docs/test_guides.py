"""Guides whose every command runs: in their order, in one directory, against one server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.issuer import issuing

from scripted_issuer import issuing as keycloak
from served import KEY, Served, serve

GUIDES = Path(__file__).parents[2] / "docs/guides"
MODEL = {"name": "x"}
EMPTY: dict[str, Any] = {"deployments": {"spare": {"model": MODEL, "provider": {"type": "scripted"}}}}


def steps(page: Path) -> Iterator[tuple[str, str]]:
    """Each command of the page's consoles, and the output that stands below it. A YAML block that begins with the
    name of a file in a comment is a command that writes it."""
    for language, block in re.findall(r"^```(console|yaml)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        if language == "yaml":
            if (named := re.match(r"# (\S+\.yaml)\n", block)) is not None:
                yield f"cat > {named[1]} <<'END'\n{block}END", ""
            continue
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines()
            end = next(n for n, line in enumerate(lines, 1) if not line.endswith("\\"))
            if "<<" in lines[0]:
                end = lines.index("END") + 1
            yield "\n".join(lines[:end]), "\n".join(lines[end:]).strip()


def follow(page: Path, served: Served, directory: Path, **environment: str) -> None:
    """Runs all of it; what stands below a command must be in its output."""
    beside = Path(sys.executable).parent
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
    server = {"MODELPORT_ENDPOINT": served.url, "MODELPORT_API_KEY": KEY, "MODELPORT_DATA_DIR": str(served.data_dir)}
    environ = {**inherited, **server, **environment, "PATH": f"{beside}:{os.environ['PATH']}"}
    found = list(steps(page))
    assert found
    for command, shown in found:
        ended = subprocess.run(
            ["bash", "-c", re.sub(r"https?://127\.0\.0\.1:8080", served.url, command)],
            cwd=directory,
            capture_output=True,
            text=True,
            env=environ,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        assert shown in ended.stdout + ended.stderr, (command, ended.stdout, ended.stderr)


@pytest.mark.parametrize(
    "name", ["blocklists", "content-filters", "deployments", "importing", "keys", "moving-from-azure"]
)
def test_every_command_of_a_guide_does_what_it_shows(
    serve_module: Callable[..., Served], tmp_path: Path, name: str
) -> None:
    follow(GUIDES / f"{name}.md", serve_module(EMPTY), tmp_path)


def clients(page: Path) -> Iterator[str]:
    """What stands in a page's differences afterwards, where it makes a client or a model of a chat."""
    for block in re.findall(r"^```diff\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        kept = "\n".join(line[1:] for line in block.splitlines() if not line.startswith("-"))
        if kept.startswith("client ="):
            yield kept


def test_the_clients_of_the_guide_work_with_the_lines_after_the_move(serve_module: Callable[..., Served]) -> None:
    served = serve_module({"deployments": {"gpt-4o": {"model": MODEL, "provider": {"type": "scripted"}}}})
    found = list(clients(GUIDES / "moving-from-azure.md"))
    assert len(found) == 3
    for text in found:
        code = (
            "import os\n"
            "from azure.ai.inference import ChatCompletionsClient\n"
            "from azure.core.credentials import AzureKeyCredential\n"
            "from openai import AzureOpenAI, OpenAI\n"
            f"{text.replace('http://127.0.0.1:8080', served.url)}\n"
            "ask = getattr(client, 'complete', None) or client.chat.completions.create\n"
            "answer = ask(model='gpt-4o', messages=[{'role': 'user', 'content': 'Hello.'}])\n"
            "print(answer.choices[0].message.content)\n"
        )
        environ = {**os.environ, "MODELPORT_KEY": KEY}
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=120)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.strip()


def test_the_content_safety_api(serve_module: Callable[..., Served]) -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (GUIDES / "content-safety-api.md").read_text(), re.DOTALL | re.MULTILINE
    )
    code = code.replace("http://127.0.0.1:8080", serve_module(EMPTY).url).replace('"KEY"', repr(KEY))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.returncode) == ("salads chopping tomatoes\n", 0), ended.stderr


def test_managing_like_azure(serve_module: Callable[..., Served], tmp_path: Path) -> None:
    page = GUIDES / "managing-like-azure.md"
    config, *_ = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    served = serve_module(config, MODELPORT_TLS_SELF_SIGNED="true")
    follow(page, served, tmp_path, CURL_CA_BUNDLE=str(served.data_dir / "tls" / "ca.pem"))


def test_code_without_keys(tmp_path: Path) -> None:
    """Every Python block of the page; its identities are what the issuer starts with."""
    text = (GUIDES / "entra.md").read_text()
    identities = tmp_path / "identities.yaml"
    (written,) = re.findall(r"^cat > identities.yaml <<'END'\n(.*?)^END$", text, re.DOTALL | re.MULTILINE)
    identities.write_text(written)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    config = {"deployments": {"smollm2-135m-instruct": {"model": MODEL, "provider": {"type": "scripted"}}}}
    data_dir = tmp_path / "data"
    with (
        pytest.MonkeyPatch.context() as patch,
        ExitStack() as stack,
    ):
        patch.setenv("KNOWN_SECRET", "a-secret-of-one's-own")
        issuer = stack.enter_context(issuing(data_dir, "--identities", str(identities)))
        served = stack.enter_context(
            serve(config, data_dir, MODELPORT_TLS_SELF_SIGNED="true", MODELPORT_IDENTITY="dev")
        )
        for block in blocks:
            code = block.replace("https://127.0.0.1:8080", served.url)
            ended = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=issuer.client(), timeout=120
            )
            assert ended.returncode == 0, ended.stderr
            assert ended.stdout.strip()


def test_tokens_of_any_issuer(serve_module: Callable[..., Served], tmp_path: Path) -> None:
    """With an issuer that stands in for Keycloak, whose claims its tokens have."""
    page = GUIDES / "oidc.md"
    config, *_ = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    with keycloak("/realms/house") as issuer:
        claims = {"oid": None, "idtyp": None, "appid": None, "tid": None, "roles": None, "azp": "batch-job"}
        claims |= {"client_id": "batch-job", "realm_access": {"roles": ["offline_access"]}, "typ": "Bearer"}
        token = issuer.token(aud=["https://modelport.example", "account"], **claims)
        other = issuer.token(aud="account", **claims)
        served = serve_module(config.replace("https://keycloak.example/realms/house", issuer.url))
        follow(page, served, tmp_path, TOKEN=token, OTHER_TOKEN=other)
