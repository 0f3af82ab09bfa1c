"""A model that follows a script: for tests, for trying clients, for playing failures. docs/guides/scripted.md has the
format; without a script it answers every operation with something sensible."""

from __future__ import annotations

from modelport.providers.scripted.provider import Scripted, open
from modelport.providers.scripted.script import ScriptFault, Settings

__all__ = ["ScriptFault", "Scripted", "Settings", "open"]
