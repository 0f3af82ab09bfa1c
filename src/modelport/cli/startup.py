"""What `serve` tells at its start: where it listens, how the deployments come up, and three calls to paste."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console

from modelport import __version__
from modelport.cli.output import write_line
from modelport.config.secrets import GeneratedKey
from modelport.config.settings import Settings
from modelport.config.sources import CONFIG_VARIABLE
from modelport.config.tls import TlsFiles
from modelport.core.catalog import Deployment, Snapshot
from modelport.core.operations import Operation
from modelport.core.ports.states import DeploymentState
from modelport.core.safety import NOTHING
from modelport.engine.weights.catalogue import CATALOGUE


class Shown(Protocol):
    """What is told about: a server of one process, or of several."""

    @property
    def states(self) -> Callable[[], Sequence[DeploymentState]]: ...

    @property
    def snapshot(self) -> Snapshot: ...


POLL_SECONDS = 0.1
BETTER = ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
TEST_MODEL = CATALOGUE["smollm2-135m-instruct"].model.name
BETTER_MODELS = (
    f"# {TEST_MODEL} is a tiny test model. Better ones that run here:",
    *(f"#   modelport models pull {name} && modelport serve --model {name}" for name in BETTER),
    "",
)
KEY_FIRST = """\
# The key is the one that this server was given as {name}. Set it in the shell that calls, for example by
read -rs {name} && export {name}   # then paste the key and press Enter"""
MARKS = {"ready": "ready", "unloaded": "loads at first use", "failed": "failed"}


def endpoint(settings: Settings, listener: socket.socket, files: TlsFiles | None) -> str:
    """The address to call, as a person on this machine writes it."""
    port = listener.getsockname()[1]
    host = settings.server.host
    if host in ("0.0.0.0", "::"):  # noqa: S104  any address means: this one, too
        host = "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if files is not None else 'http'}://{shown}:{port}"


async def announce(
    settings: Settings,
    key: GeneratedKey | None,
    listener: socket.socket,
    application: Shown,
    files: TlsFiles | None,
    config: Path | None,
) -> None:
    """Prints the start's story; ends when every deployment has settled."""
    base = endpoint(settings, listener, files)
    write_line(f"modelport {__version__} listens on {base}")
    if key is not None and key.is_new and sys.stdout.isatty():
        write_line(f"Your key, made just now: {key.secret.reveal()}   (`modelport keys show` prints it again)")
    for line in trust(files):
        write_line(line)
    sys.stdout.flush()
    await deployments_settled(application)
    write_line(filter_line(application.snapshot.default_content_filter, settings))
    for line in calls(base, settings, application, files, config, has_key=not settings.auth.anonymous):
        write_line(line)
    sys.stdout.flush()


def trust(files: TlsFiles | None) -> list[str]:
    """How each client is made to trust an authority that was made here."""
    if files is None or files.authority is None:
        return []
    ca = shlex.quote(str(files.authority))
    return [
        f"Clients have to trust {files.authority}:",
        f"  Azure's SDKs for Python, requests   export REQUESTS_CA_BUNDLE={ca}",
        f"  openai and httpx, .NET, Go, Ruby    export SSL_CERT_FILE={ca}",
        f"  Node.js                             export NODE_EXTRA_CA_CERTS={ca}",
        f"  curl                                curl --cacert {ca}",
        f"  Java                                keytool -importcert -cacerts -alias modelport -file {ca}",
    ]


async def deployments_settled(application: Shown) -> None:
    """Tells each deployment's state as it becomes known: a spinner on a terminal, a line each otherwise."""
    console = Console(highlight=False, markup=False)
    width = max((len(state.deployment.name) for state in application.states()), default=0)
    told: set[str] = set()
    with console.status("") as status:
        if not console.is_terminal:
            status.stop()
        while True:
            states = application.states()
            waiting = [s for s in states if s.state not in MARKS]
            for state in states:
                if state.state in MARKS and state.deployment.name not in told:
                    told.add(state.deployment.name)
                    console.print(described(state, width))
            if not waiting:
                return
            status.update("loading " + ", ".join(s.deployment.name for s in waiting))
            await asyncio.sleep(POLL_SECONDS)


def filter_line(policy: str, settings: Settings) -> str:
    """What deployments without a content filter of their own do."""
    told = f"  content filter: {policy}"
    if policy == NOTHING:
        told += ", which filters nothing"
        if settings.server.default_content_filter is None:
            told += "; the local classifier is not installed (pip install 'modelport[local]')"
    return told


def described(state: DeploymentState, width: int) -> str:
    """One line: name, model, state."""
    deployment = state.deployment
    reason = f": {state.reason}" if state.state == "failed" and state.reason else ""
    mark = " (default)" if deployment.default else ""
    return f"  {deployment.name:<{width}}  {deployment.model.name}  {MARKS[state.state]}{reason}{mark}"


def calls(
    base: str,
    settings: Settings,
    application: Shown,
    files: TlsFiles | None,
    config: Path | None,
    *,
    has_key: bool,
) -> list[str]:
    """Three calls that work as pasted into a shell on this machine."""
    deployment = shown_deployment(application)
    if deployment is None:
        return []
    variable = key_variable(settings)
    key = f"${{{variable}:?}}" if variable else f"$({keys_command(settings, config)})" if has_key else "anonymous"
    first = [] if variable is None else ["", *KEY_FIRST.format(name=variable).splitlines()]
    ca = str(files.authority) if files is not None and files.authority is not None else None
    trust = f"--cacert {shlex.quote(ca)} " if ca else ""
    verify = f", connection_verify={ca!r}" if ca else ""
    environment = f'MODELPORT_API_KEY="{key}"' + (f" SSL_CERT_FILE={shlex.quote(ca)}" if ca else "")
    name, question = deployment.name, '[{"role": "user", "content": "Name three colours."}]'
    return [
        *first,
        "",
        "# curl",
        f'curl -sS {trust}{base}/models/chat/completions -H "api-key: {key}" \\',
        f"""  -d '{{"model": "{name}", "max_tokens": 60, "messages": {question}}}'""",
        "",
        "# pip install azure-ai-inference",
        f"{environment} python3 - <<'EOF'",
        "import os",
        "from azure.ai.inference import ChatCompletionsClient",
        "from azure.ai.inference.models import UserMessage",
        "from azure.core.credentials import AzureKeyCredential",
        'credential = AzureKeyCredential(os.environ["MODELPORT_API_KEY"])',
        f'client = ChatCompletionsClient(endpoint="{base}/models", credential=credential{verify})',
        'messages = [UserMessage(content="Name three colours.")]',
        f'answer = client.complete(model="{name}", max_tokens=60, messages=messages)',
        "print(answer.choices[0].message.content)",
        "EOF",
        "",
        "# pip install openai",
        f"{environment} python3 - <<'EOF'",
        "import os",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{base}/openai/v1", api_key=os.environ["MODELPORT_API_KEY"])',
        f"messages = {question}",
        f'answer = client.chat.completions.create(model="{name}", max_tokens=60, messages=messages)',
        "print(answer.choices[0].message.content)",
        "EOF",
        "",
        *(BETTER_MODELS if deployment.model.name == TEST_MODEL else ()),
    ]


def shown_deployment(application: Shown) -> Deployment | None:
    """The default chat deployment, else any that chats."""
    chats = [d for d in application.snapshot.deployments.values() if Operation.CHAT_COMPLETIONS in d.profile.operations]
    return next((d for d in chats if d.default), chats[0] if chats else None)


def key_variable(settings: Settings) -> str | None:
    """The variable that the server has its key from; None: `modelport keys show` finds one, whatever the shell has."""
    origins = [secret.origin for secret in settings.auth.keys]
    if not origins or any(not origin.startswith("env:") for origin in origins):
        return None
    return origins[0].removeprefix("env:")


def keys_command(settings: Settings, config: Path | None) -> str:
    """`modelport keys show`, so that it finds this server's key from another shell, in another directory."""
    found, beside = shutil.which("modelport"), Path(sys.executable).parent / "modelport"
    if found is not None and Path(found).parent != beside.parent:
        program = "modelport"
    else:  # the next shell may not have this environment's programs on its path
        program = shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m modelport"
    words = [program, "keys", "show"]
    file = config or os.environ.get(CONFIG_VARIABLE)
    if file:
        words += ["--config", shlex.quote(str(Path(file).absolute()))]
    default = Path("~/.local/share/modelport").expanduser()
    if settings.server.data_dir != default:
        words += ["--data-dir", shlex.quote(str(settings.server.data_dir))]
    return " ".join(words)
