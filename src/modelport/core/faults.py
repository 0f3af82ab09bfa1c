"""A fault of ours in the log: where it happened, and nothing of what a caller sent."""

from __future__ import annotations

import traceback


def frames(error: BaseException) -> str:
    """Where it happened. Not the exception's own text, which may quote what the caller sent."""
    return "".join(
        f"  {frame.filename}:{frame.lineno} {frame.name}\n" for frame in traceback.extract_tb(error.__traceback__)
    )


def drop_frames(error: BaseException) -> None:
    """Releases what the frames hold that the error came through: an upstream's answer, and the error itself."""
    error.__traceback__ = error.__context__ = None


def raised(error: Exception) -> None:
    """Raises it, for a step that failed elsewhere."""
    raise error
