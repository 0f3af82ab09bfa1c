"""Azure OpenAI's errors are the ones of OpenAI v1 on Azure."""

from modelport.dialects.openai_chat.errors import encode

__all__ = ["encode"]
