"""A configuration file on disk, and an adapter that somebody else installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ADAPTER = """
from pathlib import Path
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    base_url: str
    api_key: SecretStr | None = None
    region: str = "here"
    headers: dict[str, str] = {}
    script: Path | None = None
    attempts: int = 1

    @field_validator("api_key")
    @classmethod
    def long_enough(cls, value):
        if value is not None and len(value.get_secret_value()) < 4:
            raise ValueError(f"the key {value.get_secret_value()} is too short")
        return value
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration file and gives its path."""

    def write_file(text: str) -> Path:
        path = tmp_path / "modelport.yaml"
        path.write_text(text, "utf-8")
        return path

    return write_file


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The type name of an adapter that is installed as a package of its own."""
    site = tmp_path / "site"
    (site / "house_adapter-1.0.dist-info").mkdir(parents=True)
    (site / "house_adapter.py").write_text(ADAPTER)
    (site / "house_adapter-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: house-adapter\nVersion: 1.0\n"
    )
    (site / "house_adapter-1.0.dist-info" / "entry_points.txt").write_text(
        "[modelport.providers]\nhouse_type = house_adapter\nbroken_type = house_adapter_that_is_not_there\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return "house_type"
