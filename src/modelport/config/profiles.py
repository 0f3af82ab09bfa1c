"""What model families can do: the profiles that come with the package."""

from __future__ import annotations

from importlib.resources import files

import yaml

from modelport.control.profiles import Profiles


def load_profiles() -> Profiles:
    """Reads them."""
    text = files("modelport.control").joinpath("profiles.yaml").read_text("utf-8")
    return Profiles(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506  C where it is built
