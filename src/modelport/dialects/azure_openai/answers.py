"""Azure OpenAI's answers are OpenAI's."""

from modelport.dialects.openai_chat.answers import (
    ChatStream,
    CompletionsStream,
    new_completions_id,
    new_id,
    whole_chat,
    whole_completions,
    whole_embeddings,
)

__all__ = [
    "ChatStream",
    "CompletionsStream",
    "new_completions_id",
    "new_id",
    "whole_chat",
    "whole_completions",
    "whole_embeddings",
]
