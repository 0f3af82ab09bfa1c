"""Writes docs/reference/errors.md from the error tree and the dialects' encoders; `--check`: is it current?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from modelport.core import errors as tree
from modelport.core import limit_errors
from modelport.core.errors import ModelportError, Offence
from modelport.core.operations import Operation
from modelport.dialects.azure_inference import errors as azure_inference
from modelport.dialects.azure_openai import errors as azure_openai

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "errors.md"

HEAD = """# Errors

Every way a call can be refused or fail. Written by `scripts/errors_reference.py`; do not edit.

`code` is `error.code` of the body and the header `x-ms-error-code`. Where a client may try again, the answer
carries `Retry-After`; nothing else does, because Azure's clients retry whatever carries it. A failure after the first
bytes of a stream is an error chunk and a broken connection, never a clean end.

| error | status | code on `/models` and the root form | code on `/openai` and `/v1` | Retry-After | what it means |
|---|---|---|---|---|---|
"""

SAMPLES: dict[type[ModelportError], ModelportError] = {
    tree.ExtraParametersRefused: tree.ExtraParametersRefused(["a"]),
    tree.ExtraParametersOptionUnknown: tree.ExtraParametersOptionUnknown("x"),
    tree.ModelNotNamed: tree.ModelNotNamed(),
    tree.OperationNotSupported: tree.OperationNotSupported(Operation.EMBEDDINGS, "d"),
    limit_errors.ContextLengthExceeded: limit_errors.ContextLengthExceeded.of(10, 10, 10),
    tree.ContentFiltered: tree.ContentFiltered(),
    tree.Unauthenticated: tree.Unauthenticated(),
    tree.TooManyFailures: tree.TooManyFailures(1),
    tree.PermissionDenied: tree.PermissionDenied(),
    tree.DeploymentNotFound: tree.DeploymentNotFound("d"),
    tree.RouteNotFound: tree.RouteNotFound(),
    tree.MethodNotAllowed: tree.MethodNotAllowed(["POST"]),
    tree.RequestTimedOut: tree.RequestTimedOut(),
    tree.CredentialRefused: tree.CredentialRefused(401, "m"),
    tree.BodyTooLarge: tree.BodyTooLarge(1),
    tree.UnsupportedEncoding: tree.UnsupportedEncoding("gzip"),
    tree.InvalidParameters: tree.InvalidParameters([Offence("t", ("body", "x"), "m", 1)]),
    limit_errors.BudgetExhausted: limit_errors.BudgetExhausted("project p", "month", "2027-01-01T00:00:00Z"),
    limit_errors.PriceUnknown: limit_errors.PriceUnknown("d"),
    limit_errors.RateLimited: limit_errors.RateLimited("tokens", 1, 1),
    tree.InternalError: tree.InternalError(),
    tree.CategoriesNotJudged: tree.CategoriesNotJudged(["hate"]),
    tree.Unavailable: tree.Unavailable("m"),
}


def leaves(kind: type[ModelportError] = ModelportError) -> Iterator[type[ModelportError]]:
    """The tree's leaves, and what is raised by itself though it has kinds of its own."""
    below = kind.__subclasses__()
    if not below or issubclass(kind, tree.Unavailable):
        yield kind
    for child in below:
        yield from leaves(child)


def row(kind: type[ModelportError]) -> str:
    """One line of the table."""
    error = SAMPLES.get(kind) or kind("m")
    models = azure_inference.encode(error)
    root = azure_inference.encode(error, form="root")
    openai = azure_openai.encode(error, operation=Operation.CHAT_COMPLETIONS, api_version=None)
    code = models.code if models.code == root.code else f"{models.code} · {root.code}"
    meaning = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    retry = "yes" if error.retry_after is not None else ""
    return f"| {kind.__name__} | {models.status} | `{code}` | `{openai.code}` | {retry} | {meaning} |"


def page() -> str:
    """The whole page."""
    found = sorted(set(leaves()), key=lambda kind: (kind.status, kind.__name__))
    return HEAD + "\n".join(row(kind) for kind in found) + "\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit(f"{PAGE.name} is not current; run python scripts/errors_reference.py")


if __name__ == "__main__":
    main()
