"""What a caller can ask for. The words are OpenTelemetry's `gen_ai.operation.name` where it has one."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Operation(StrEnum):
    """One kind of inference call; a model serves some of them, a key may be limited to some of them."""

    CHAT_COMPLETIONS = "chat_completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    IMAGE_EMBEDDINGS = "image_embeddings"
    CONTENT_SAFETY = "content_safety"
    """Judging a text by the content filters; no deployment takes part."""
    INFO = "info"
    """Reading what a deployment is: `/info` and the model lists."""

    @property
    def azure_word(self) -> str:
        """Azure's own word for it in `OperationNotSupported`."""
        return AZURE_WORDS[self]


AZURE_WORDS: Final = {
    Operation.CHAT_COMPLETIONS: "chatCompletion",
    Operation.COMPLETIONS: "completion",
    Operation.EMBEDDINGS: "embeddings",
    Operation.IMAGE_EMBEDDINGS: "imageEmbeddings",
    Operation.CONTENT_SAFETY: "contentSafety",
    Operation.INFO: "info",
}
