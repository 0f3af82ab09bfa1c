"""The mix: requests as a team's programs send them. Each is a chat, unless its name says another thing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

QUESTION = "Wie viele Sprachen gibt es auf der Welt, und welche fünf werden am häufigsten gesprochen? " * 4
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Name of a city"}, "unit": {"enum": ["c", "f"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "The weather in a city, now.", "parameters": PARAMETERS}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PARAMETERS}}
COMMON: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": QUESTION}],
    "temperature": 0.7,
    "max_tokens": 256,
}
NEUTRAL: dict[str, Any] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "stop": ["<|endoftext|>"],
    "seed": 42,
    "response_format": {"type": "text"},
}


@dataclass(frozen=True)
class Form:
    """One row of the mix."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    deployment: str = "bench"
    key: str = "operator"
    path: str = "/v1/chat/completions"
    store: str = "memory"
    """Of the quota."""

    @property
    def is_chat(self) -> bool:
        """Whether it can be streamed."""
        return self.path.endswith("chat/completions")

    @property
    def kinds(self) -> tuple[bool, ...]:
        """Whole, and streamed where that is possible."""
        return (False, True) if self.is_chat else (False,)

    def body(self, stream: bool = False) -> bytes:
        """As clients send it."""
        fields = {"model": self.deployment, **(COMMON if self.is_chat else {}), **self.fields}
        if stream:
            fields["stream"] = True
        return json.dumps(fields, ensure_ascii=False).encode()


PLAIN = Form("plain")
DOCUMENTED = Form("all documented fields, neutral", NEUTRAL)
TOKEN = Form("token", key="token")
LIMITED = Form("key with limits and a budget", key="team")
FORMS = (
    PLAIN,
    DOCUMENTED,
    Form("one tool", {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "auto"}),
    Form("json_schema", {"response_format": SCHEMA}),
    Form("user and two extras, dropped", {"user": "u-1", "top_k": 40, "min_p": 0.1}, ("extra-parameters: drop",)),
    LIMITED,
    TOKEN,
    Form("two targets", deployment="bench-two"),
    Form("Redis quota", store="redis"),
    Form("embeddings of one text", {"input": QUESTION}, deployment="bench-embed", path="/v1/embeddings"),
)
GATED = (PLAIN, DOCUMENTED, LIMITED, TOKEN)
NO_FILTER = "Microsoft.Nill"
CONFIG = """
server: {{port: {port}, data_dir: "{folder}/data", default_content_filter: {policy}}}
telemetry: {{log_level: warning}}
{store}
auth:
  oidc:
    - issuer: "{issuer}"
      audiences: ["https://cognitiveservices.azure.com"]
      roles: [{{claim: roles, value: Inference User, role: Inference User}}]
providers:
  mock: {mock}
  other: {other}
deployments:
  bench: {{model: {{format: Custom, name: bench}}, provider: mock, limits: {limits}, default: true}}
  bench-two:
    model: {{format: Custom, name: bench}}
    targets: [{{provider: mock, model: bench, weight: 1}}, {{provider: other, model: bench, weight: 1}}]
    limits: {limits}
  bench-embed: {{model: {{format: OpenAI, name: text-embedding-3-small}}, provider: mock, limits: {limits}}}
keys:
  team:
    limits: {limits}
    budget: {{per: month, tokens: 1000000000000}}
    key1: env:BENCH_TEAM_KEY
"""
