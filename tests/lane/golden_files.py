"""Golden files of whole calls: one for each operation, surface and mode, below tests/golden/calls.

A file has two objects, an entry a line: `shared`, the values that several cases have, under a digest; and `cases`. A
case has its first outcome, `again` with what differs when the same request is sent once more on the same connection
(absent: it was not sent; empty: nothing differs), and `metrics`, what both have added to each series.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from .corpus import Case, captured, errors, habits, plain
from .outcomes import CaseResult, Outcome, differing
from .traffic import TRAFFIC

FOLDER = Path(__file__).parents[1] / "golden" / "calls"
SHARED_LENGTH = 60
"""Of a value's JSON: a shorter one stands where it is used."""
USUAL = msgspec.to_builtins(Outcome(200, [], "", False, [], [], []))
"""What an outcome in a file does not name."""


def surface_of(path: str) -> str:
    """The API that a path belongs to."""
    return next((name for name in ("models", "openai", "v1") if path.startswith(f"/{name}/")), "root")


def group_of(case: Case) -> str:
    """The name of the file that a case belongs to."""
    path = case.request.split(b" ", 2)[1].decode().partition("?")[0].rstrip("/")
    operation = "completions" if path.endswith("completions") else "embeddings"
    operation = "chat" if path.endswith("chat/completions") else operation
    if not path.endswith(("completions", "embeddings")):
        return "others"
    is_stream = b'"stream": true' in case.request or b'"stream":true' in case.request
    return f"{operation}-{surface_of(path)}-{'stream' if is_stream else 'whole'}"


def grouped() -> dict[str, list[Case]]:
    """The corpus by file."""
    found: dict[str, list[Case]] = {}
    for case in [*plain(), *errors(), *captured(), *habits(), *TRAFFIC]:
        found.setdefault(group_of(case), []).append(case)
    return dict(sorted(found.items()))


GROUPS = grouped()


def plain_form(result: CaseResult) -> dict[str, Any]:
    """A result as a file holds it, but for what is shared."""
    first, *more = (msgspec.to_builtins(found) for found in result.outcomes)
    form = differing(first, USUAL)
    if more:
        form["again"] = differing(more[0], first)
    if result.metrics:
        form["metrics"] = result.metrics
    return form


def digest(value: Any) -> str:
    """The name of a shared value."""
    return "#" + hashlib.sha256(text(value).encode()).hexdigest()[:8]


def text(value: Any) -> str:
    """As compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """The value with each of its parts replaced, from the innermost on."""
    if isinstance(value, dict):
        value = {name: replaced(part, replace) for name, part in value.items()}
    elif isinstance(value, list):
        value = [replaced(part, replace) for part in value]
    return replace(value)


def write(group: str, results: dict[str, CaseResult]) -> None:
    """Writes the file of a group anew."""
    forms = {name: plain_form(result) for name, result in sorted(results.items())}
    counted: Counter[str] = Counter()
    replaced(list(forms.values()), lambda value: counted.update([text(value)]) or value)
    shared: dict[str, Any] = {}

    def share(value: Any) -> Any:
        whole = text(unshared(value, shared))
        if counted[whole] < 2 or len(whole) < SHARED_LENGTH:
            return value
        name = "#" + hashlib.sha256(whole.encode()).hexdigest()[:8]
        shared[name] = value
        return name

    cases = {name: replaced(form, share) for name, form in forms.items()}
    used: set[str] = set()
    replaced([cases, shared], lambda value: used.add(value) or value if isinstance(value, str) else value)
    shared = {name: value for name, value in sorted(shared.items()) if name in used}
    FOLDER.mkdir(exist_ok=True)
    parts = [",\n".join(f"{text(name)}:{text(value)}" for name, value in part.items()) for part in (shared, cases)]
    (FOLDER / f"{group}.json").write_text('{{"shared":{{\n{}\n}},"cases":{{\n{}\n}}}}\n'.format(*parts))


def unshared(value: Any, shared: dict[str, Any]) -> Any:
    """The value with each digest replaced by what it names."""

    def named(part: Any) -> Any:
        return unshared(shared[part], shared) if isinstance(part, str) and part in shared else part

    return replaced(value, named)


def read(group: str) -> dict[str, dict[str, Any]]:
    """Each case of a group as `plain_form` gives it."""
    held = json.loads((FOLDER / f"{group}.json").read_text())
    shared = held["shared"]
    memory: dict[str, Any] = {}

    def named(part: Any) -> Any:
        if not (isinstance(part, str) and part in shared):
            return part
        if part not in memory:
            memory[part] = replaced(shared[part], named)
        return memory[part]

    found: dict[str, dict[str, Any]] = replaced(held["cases"], named)
    return found
