"""SecureVector Guardian, a linear model of words and characters that knows prompt attacks: no ONNX, no numpy, beside
MiniLM in the same worker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from modelport.engine.backend import WorkerError


class Guardian:
    """Opened at the first use: it takes 60 MB."""

    @cached_property
    def _model(self) -> Any:
        try:
            from svguardian import resolve_runtime
            from svguardian.model.pure_infer import PureGuardian
        except ImportError as error:
            raise WorkerError.failed("The package securevector-guardian-model is not installed.") from error
        return PureGuardian.load(resolve_runtime())

    def scores(self, texts: Sequence[str]) -> list[float]:
        """How sure it is, 0 to 1, that each text is an attack."""
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> float:
        score: float = self._model.predict(text)["malicious_score"]
        return score
