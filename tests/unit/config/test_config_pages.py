"""What the pages and the example say about the configuration is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelport.config.document import read_document
from modelport.config.faults import ConfigError
from modelport.config.load import load, parse

ROOT = Path(__file__).parents[3]
ENVIRON = {"HOME": "/h", "MODELPORT_API_KEY": "one", "UPSTREAM_KEY": "two", "BATCH_KEY": "three"}
GUIDE = (ROOT / "docs/guides/configuration.md").read_text("utf-8")


def test_the_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/settings_reference.py", "--check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_is_valid() -> None:
    found = load(ROOT / "examples/modelport.yaml", ENVIRON)
    assert list(found.deployments) == ["local-chat", "llama", "Mistral-large"]


def test_the_example_needs_only_the_variables_that_it_names() -> None:
    with pytest.raises(ConfigError) as caught:
        load(ROOT / "examples/modelport.yaml", {"HOME": "/h"})
    named = [fault.what for fault in caught.value.faults]
    variables = ("MODELPORT_API_KEY", "UPSTREAM_KEY", "BATCH_KEY")
    assert named == [f"the environment variable {variable} is not set" for variable in variables]


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_every_block_of_the_guide_is_valid(block: str) -> None:
    alternatives = block.splitlines() if block.startswith("server:") else [block]
    for text in alternatives:
        parse(read_document(text.encode(), "guide"), Path("/h/guide"), ENVIRON)


def test_the_faults_that_the_guide_shows_are_the_ones_that_are_told() -> None:
    (block,) = re.findall(r"```yaml\n(providers:.*?)```", GUIDE, re.DOTALL)
    text = block.replace("    provider: house\n", "    sku: {capcity: 1}\n    provider: huose\n")
    with pytest.raises(ConfigError) as caught:
        parse(read_document(text.encode(), "x"), Path("modelport.yaml"), ENVIRON | {"MODELPORT_PORT": "70000"})
    (shown,) = re.findall(r"```\n(modelport\.yaml:.*?)```", GUIDE, re.DOTALL)
    assert sorted(str(fault) for fault in caught.value.faults) == sorted(shown.splitlines())
