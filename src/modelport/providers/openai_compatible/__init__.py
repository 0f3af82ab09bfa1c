"""Any server that speaks the OpenAI API: the big clouds, vLLM, llama-server, Ollama, another gateway."""

from __future__ import annotations

from modelport.providers.openai_compatible.provider import OpenAICompatible, open
from modelport.providers.openai_compatible.settings import Settings

__all__ = ["OpenAICompatible", "Settings", "open"]
