"""What the pages say holds: examples run, links lead somewhere, commands and files exist."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from modelport.cli.main import COMMANDS, app, load
from modelport.config.document import read_document
from modelport.config.faults import ConfigError
from modelport.config.load import parse
from modelport.config.prices import parse_prices
from served import KEY, Served

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def prose_of(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The places that its headings make."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


# --- links ---------------------------------------------------------------------------------------------------------


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@every_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`((?:src|tests|docs|bench|examples|scripts)/[\w./-]*\w/?)`", prose_of(page)):
        assert (ROOT / name).exists(), name


def test_the_way_names_files_that_are_there() -> None:
    page = text_of(ROOT / "docs/way.md")
    named = re.findall(
        r"\b((?:lane|surfaces|gateway|dialects|stores|providers|engine|core|control|app|config)/[\w/]+\.\w+)", page
    )
    assert len(named) > 10
    for name in set(named):
        assert (ROOT / "src/modelport" / name).exists(), name


@every_page
def test_no_page_is_about_one_machine(page: Path) -> None:
    assert not re.search(r"/(tmp|work|root)/|localhost:\d{5}", text_of(page))


# --- decisions -----------------------------------------------------------------------------------------------------

DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_says_why_what_and_what_follows(page: Path) -> None:
    text = text_of(page)
    assert text.startswith(f"# {page.name[:4]} ")
    places = [text.find(f"**{word}.**") for word in ("Context", "Decision", "Consequences")]
    assert -1 not in places
    assert places == sorted(places)


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


# --- commands ------------------------------------------------------------------------------------------------------


@functools.cache
def commands() -> dict[tuple[str, ...], set[str]]:
    """Every command, and the options it takes."""
    found: dict[tuple[str, ...], set[str]] = {}

    def walk(command: Any, name: tuple[str, ...]) -> None:
        found[name] = {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
        for inner, subcommand in getattr(command, "commands", {}).items():
            is_lazy = not name and inner in COMMANDS
            walk(load(inner) if is_lazy else subcommand, (*name, inner))

    walk(typer.main.get_command(app), ())
    return found


@every_page
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    known = commands()
    lines = re.findall(r"`modelport ([^`]+)`", prose_of(page))
    for block in [*blocks(page, "sh"), *blocks(page, "console"), *blocks(page, "")]:
        lines += re.findall(r"^(?:\$ )?(?:\S*/)?modelport (.+)$", block, re.MULTILINE)
    for line in lines:
        words = re.split(r"\s+", line.split("#")[0].split("&&")[0].strip())
        name: tuple[str, ...] = ()
        while words and (*name, words[0]) in known:
            name = (*name, words.pop(0))
        assert name or words[0].startswith("-"), line
        for option in (word.split("=")[0].strip("[]|,") for word in words if word.lstrip("[").startswith("-")):
            assert option in known[name] | {"--help"}, line


@every_page
def test_every_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = re.findall(r"`make ([a-z-]+)`", prose_of(page))
    for block in [*blocks(page, "sh"), *blocks(page, "")]:
        named += re.findall(r"^make +([a-z-]+)", block, re.MULTILINE)
    assert set(named) <= targets


# --- examples ------------------------------------------------------------------------------------------------------


@every_page
def test_every_yaml_block_is_a_configuration_or_a_part_of_one(page: Path) -> None:
    for block in blocks(page, "yaml"):
        if page.name == "scripted.md" and "replies:" in block:
            continue  # a script, which its own test reads
        if block.startswith("# prices.yaml"):
            assert parse_prices(read_document(block.encode(), "prices.yaml"), "prices.yaml")[0].prices
            continue
        environ = {"HOME": "/h", **dict.fromkeys(re.findall(r"env:(\w+)", block), "x")}
        alternatives = block.splitlines() if block.startswith("server:") else [block]
        for text in alternatives:
            assert faults_of(text, page.parent / "modelport.yaml", environ) == []


def faults_of(text: str, file: Path, environ: dict[str, str]) -> list[str]:
    """What is wrong with a configuration, apart from providers that an excerpt leaves out."""
    try:
        parse(read_document(text.encode(), str(file)), file, environ)
    except ConfigError as error:
        return [str(fault) for fault in error.faults if "names no provider" not in fault.what]
    return []


@every_page
def test_every_python_and_toml_block_is_one(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)
    for block in blocks(page, "toml"):
        tomllib.loads(block)


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    """Answers for the model that the first page calls."""
    model = {"format": "Custom", "name": "script", "version": "1"}
    deployment = {"model": model, "provider": {"type": "scripted"}, "default": True}
    return serve_module({"deployments": {"smollm2-135m-instruct": deployment}})


def test_the_first_calls_of_the_readme_work_as_they_stand(served: Served) -> None:
    readme = ROOT / "README.md"
    beside = Path(sys.executable).parent
    (curl,) = [block for block in blocks(readme, "sh") if "curl" in block]
    (sdk,) = blocks(readme, "python")
    for command in (
        ["sh", "-c", curl.replace("http://127.0.0.1:8080", served.url).replace(".venv/bin", str(beside))],
        [sys.executable, "-c", sdk.replace("http://127.0.0.1:8080", served.url)],
    ):
        environment = {**os.environ, "MODELPORT_API_KEY": KEY}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "Name three colours." in done.stdout


def test_the_readmes_configuration_is_checked_as_it_says(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "README.md", "yaml")
    file = tmp_path / "modelport.yaml"
    file.write_text(text)
    (tmp_path / "my-model.gguf").write_bytes(b"GGUF")
    environment = {**os.environ, "UPSTREAM_KEY": "x"}
    command = [sys.executable, "-m", "modelport", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Mistral-large" in done.stdout
