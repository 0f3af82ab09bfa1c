"""What model families can do: the profiles that come with the package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from modelport.control.profiles import Profiles


@cache
def load_profiles() -> Profiles:
    """Reads them, once."""
    text = files("modelport.control").joinpath("profiles.yaml").read_text("utf-8")
    return Profiles(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506  C where it is built
