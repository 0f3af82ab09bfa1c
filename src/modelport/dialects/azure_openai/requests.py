"""Azure OpenAI's request bodies are OpenAI's."""

from modelport.dialects.openai_chat.requests import decode_chat, decode_completions, decode_embeddings

__all__ = ["decode_chat", "decode_completions", "decode_embeddings"]
