"""Text of two kinds that never mix: ours, whose control tokens count, and other people's, which is only ever text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of text. In a trusted one (a template, our own markers) control tokens are control tokens."""

    text: str
    is_trusted: bool = False


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """The same text with neighbours of one kind made one, so that they are tokenised as one."""
    runs: list[Segment] = []
    for segment in segments:
        if not segment.text:
            continue
        if runs and runs[-1].is_trusted == segment.is_trusted:
            runs[-1] = Segment(runs[-1].text + segment.text, segment.is_trusted)
        else:
            runs.append(segment)
    return runs


def fill(rendered: str, mark: str, contents: Sequence[Sequence[Segment]]) -> list[Segment]:
    """The rendered template with each placeholder `mark` + index + `mark` replaced by that content."""
    filled: list[Segment] = []
    for at, part in enumerate(re.split(f"{mark}([0-9]+){mark}", rendered)):
        if at % 2:
            filled.extend(contents[int(part)])
        else:
            filled.append(Segment(part, is_trusted=True))
    return joined(filled)


def placeholder(mark: str, index: int) -> str:
    """What stands for a content while the template is rendered: letters and digits, so no template changes it."""
    return f"{mark}{index}{mark}"


def without_markup(text: str, markup: Sequence[str]) -> list[str]:
    """The text cut inside every one of the model's own markers, so that none can be read as one token.

    Joined again it is the same text. Needed for markers that a tokeniser reads even where control tokens are off.
    """
    if not markup:
        return [text]
    cut = re.compile("|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in markup))
    ends = [match.start() for match in cut.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
