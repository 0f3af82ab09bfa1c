"""Names of deployments, providers, keys and everything else that an operator names."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE: Final = "a name has 1 to 64 letters, digits, '.', '_' or '-', and starts with a letter or digit"


def is_name(text: str) -> bool:
    """Whether something can be called this."""
    return _NAME.fullmatch(text) is not None
