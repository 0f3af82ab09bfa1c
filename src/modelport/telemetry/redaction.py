"""The last net: takes out of a line what looks like a credential. Nothing should get this far; this is for the day that
something does, such as a foreign library quoting a header in its error."""

from __future__ import annotations

import re
from typing import Final

from modelport.core.redaction import CREDENTIAL, MASK, Redactor

NAMED: Final = re.compile(
    r"""(?ix)
    \b((?:x-)?api[-_]?key|(?:ocp-apim-)?subscription[-_]key|client[-_]secret|secret|password|access[-_]token
       |authorization|proxy-authorization)
    (["']?\s*[:=,]\s*(?:b(?=["']))?["']?)
    (?:(?:bearer|basic)\s+)?
    [^\s"',;&)}\]]+
    """
)
SHAPED: Final = re.compile(
    r"""(?x)
    (?<![\w-])[0-9a-fA-F]{32}(?![\w-])                            # Azure's short keys
    | (?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{40,}(?![\w-])  # long random words, such as Azure's 84 characters
    """
)


_known = Redactor()


def know_secrets(redactor: Redactor) -> None:
    """From now on this process's log lines are searched for its secrets too."""
    global _known
    _known = redactor


def redacted(text: str) -> str:
    """The text with each such thing replaced."""
    return _known.secrets_out(SHAPED.sub(MASK, CREDENTIAL.sub(MASK, NAMED.sub(rf"\1\2{MASK}", text))))
