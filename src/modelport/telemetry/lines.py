"""How a log line looks, as JSON or as text: one line each, whatever a caller has put into it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from modelport.core.usage import UsageRecord
from modelport.telemetry.redaction import redacted

Format = Literal["json", "text", "terminal"]
"""`terminal`: what a person reads while the server runs; fields that matter to programs are left out."""

LONGEST_FOREIGN_TEXT: Final = 128
"""Of what callers and targets name freely, so much is shown."""
KNOWN_TEXTS: Final = 1024
"""So many names of models and the like need not be searched for secrets again."""
SPEAKS_FOR_ITSELF: Final = re.compile(r"[!#-&(-<>-\[\]-~]+").fullmatch
"""Visible ASCII but for quotes, `=` and the backslash."""
SAID: Final = ("logger", "message", "exception")
OPENING: Final = ("time", "level", "event")
"""Fields that stand without their names at the beginning of the text form."""


def access_fields(record: UsageRecord) -> dict[str, Any]:
    """What a finished call says in the log: never a text, never a key."""
    usage = record.usage
    return {
        "time": timestamp(record.started_at + record.duration_seconds),
        "level": "info",
        "event": "call",
        "id": record.id,
        "client_request_id": foreign(record.client_request_id),
        "principal": record.principal,
        "key_id": record.key_id,
        "surface": record.surface,
        "operation": record.operation,
        "streamed": record.streamed,
        "requested_model": foreign(record.requested_model),
        "deployment": record.deployment,
        "target": record.target,
        "answered_model": foreign(record.answered_model),
        "status": record.status,
        "ending": str(record.ending),
        "error_code": foreign(record.error_code),
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "usage_source": str(record.usage_source),
        "first_event_seconds": rounded(record.first_event_seconds),
        "duration_seconds": rounded(record.duration_seconds),
        "snapshot": record.snapshot,
    }


def log_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a library's or our own log call says."""
    fields = {
        "time": timestamp(record.created),
        "level": record.levelname.lower(),
        "event": "log",
        "logger": record.name,
        "message": redacted(record.getMessage()),
    }
    if record.exc_info:
        fields["exception"] = redacted(logging.Formatter().formatException(record.exc_info))
    return fields


def rendered(fields: Mapping[str, Any], format: Format) -> str:
    """One line with its newline. Fields that say nothing are left out."""
    if format == "json":
        shown = {name: value for name, value in fields.items() if value is not None}
        return msgspec.json.encode(shown).decode() + "\n"
    if format == "terminal":
        return " ".join(for_people(fields)) + "\n"
    head = [str(fields[name]) for name in OPENING]
    rest = [f"{name}={worded(value)}" for name, value in fields.items() if name not in OPENING and value is not None]
    return " ".join([*head, *rest]) + "\n"


def for_people(fields: Mapping[str, Any]) -> Iterator[str]:
    """The words of a short line: the local time, and for a call its status, deployment, tokens and seconds."""
    moment = datetime.fromisoformat(fields["time"]).astimezone()
    yield moment.strftime("%H:%M:%S")
    if fields["event"] != "call":
        if fields["level"] != "info":
            yield f"{fields['level']}:"
        yield from (str(fields[name]) for name in ("message", "exception") if fields.get(name))
        yield from (f"{name}={worded(fields[name])}" for name in fields if name not in (*OPENING, *SAID))
        return
    yield str(fields["status"])
    yield str(fields["operation"])
    yield worded(fields["deployment"] or fields["requested_model"] or "-")
    if fields["prompt_tokens"] or fields["completion_tokens"]:
        yield f"{fields['prompt_tokens']}+{fields['completion_tokens']} tokens"
    yield f"{fields['duration_seconds'] or 0:.2f} s"
    if fields["ending"] != "completed":
        yield worded(fields["error_code"] or fields["ending"])


def worded(value: Any) -> str:
    """A value for the text form: quoted where it could be taken for something else, or move a terminal's cursor."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        return str(value)
    return value if SPEAKS_FOR_ITSELF(value) else ascii(value)


def foreign(text: str | None) -> str | None:
    """What somebody else has worded."""
    return None if text is None else searched(text[:LONGEST_FOREIGN_TEXT])


@lru_cache(KNOWN_TEXTS)
def searched(text: str) -> str:
    """As redaction.redacted. Models have few names, and each call says two of them."""
    return redacted(text)


def rounded(seconds: float | None) -> float | None:
    """To the microsecond."""
    return None if seconds is None else round(seconds, 6)


def timestamp(unix_seconds: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
