"""The last net: takes out of a line what looks like a credential. Nothing should get this far; this is for the day that
something does, such as a foreign library quoting a header in its error."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "[redacted]"

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
      (?i:\b(?:bearer|basic)\s+[\w.~+/=-]{8,})                      # an Authorization value
    | \beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?                        # a JSON web token
    | \b(?:sk|pk|hf|ghp|gho|ghs|xox[abp]|mp)[-_][\w-]{12,}          # keys with a maker's mark
    | \bgithub_pat_\w{12,}
    | (?<![\w-])[0-9a-fA-F]{32}(?![\w-])                            # Azure's short keys
    | (?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{40,}(?![\w-])  # long random words, such as Azure's 84 characters
    """
)


def redacted(text: str) -> str:
    """The text with each such thing replaced."""
    return SHAPED.sub(MASK, NAMED.sub(rf"\1\2{MASK}", text))
