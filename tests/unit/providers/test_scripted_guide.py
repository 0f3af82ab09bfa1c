"""The guide's tables and its example hold."""

import re
from pathlib import Path

import pytest
import yaml

from modelport.providers.scripted.script import FaultReply, Match, Reply, Script

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "scripted.md").read_text("utf-8")


def keys_of(section):
    table = GUIDE.split(f"\n### {section}\n", 1)[1].split("\n### ", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize(
    ("section", "model"), [("The file", Script), ("A reply", Reply), ("match", Match), ("fault", FaultReply)]
)
def test_every_key_is_described_and_nothing_else(section, model):
    assert keys_of(section) == {field.alias or name for name, field in model.model_fields.items()}


def test_the_example_is_a_script():
    (example,) = (block for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL) if "replies.yaml" in block)
    assert len(Script.model_validate(yaml.safe_load(example)).replies) == 6
