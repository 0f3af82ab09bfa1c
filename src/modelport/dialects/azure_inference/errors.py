"""Every error in the shape of the Azure AI Model Inference API (contract: Azure's own texts where they are known)."""

from __future__ import annotations

from typing import Literal

from modelport.core.errors import ModelportError
from modelport.dialects.error_body import ErrorBody

Form = Literal["models", "root", "managed"]
"""`models`: `/models` and `/api/models`; `root`: one model at the host's root or below a prefix of its own; `managed`: the
same as a managed online endpoint (its engine's failures are 424)."""


def encode(error: ModelportError, *, form: Form = "models") -> ErrorBody:
    """The status, code, headers and body for this error."""
    raise NotImplementedError
