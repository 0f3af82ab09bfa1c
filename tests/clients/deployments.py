"""What the servers of these tests deploy: scripted deployments under well-known names, and the embedded models."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import Any

LLAMA = "Meta-Llama-3.1-405B-Instruct"
EMBEDDED_LLAMA = LLAMA
"""The default deployment: an embedded chat model under the name and profile of a Llama."""
SCRIPTED_LLAMA = "Llama-scripted"
EMBEDDED = "smollm2-135m-instruct"
EMBEDDED_TEXTS = "all-minilm-l6-v2"
EMBEDDED_IMAGES = "efficientnet-lite0-conse"
COHERE = "Cohere-embed-v3-english"
LARGE = "text-embedding-3-large"

RIEMANN = (
    "Riemann's conjecture says that every non-trivial zero of the zeta function has real part one half. "
    "Nobody has proved it."
)
LANGUAGES = (
    "As of now, it's estimated that there are about 7,000 languages spoken around the world. However, this number can "
    "vary as some languages become extinct and new ones develop. It's also important to note that the number of "
    "speakers can greatly vary between languages, with some having millions of speakers and others only a few hundred."
)
TOMATOES = "Take a knife. " + "Then chop and rest a while. " * 60 + "Then serve."
MULTIBYTE = "안녕하세요, 세계! 你好,世界!👋🏽 👩‍👩‍👧‍👦 é ü ß — “quoted”\nand a second line\twith a tab"


def png_data_url(width: int = 32, height: int = 32) -> str:
    """A small red picture, made here so that no file is needed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + b"\xc0\x20\x20" * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(picture).decode()


@dataclass(frozen=True)
class Described:
    """A server to start: its configuration, whether it speaks TLS, and whether it needs pulled weights."""

    configuration: dict[str, Any]
    tls: bool = False
    needs_models: bool = False
    keyless: bool = False
    """With an issuer of tokens, and TLS."""


def model(format: str, name: str, version: str = "1") -> dict[str, str]:
    return {"format": format, "name": name, "version": version}


def scripted(*replies: dict[str, Any]) -> dict[str, Any]:
    """A provider that answers from these replies; after a tool has answered, it says what the tool said."""
    return {"type": "scripted", "replies": list(replies)}


SMOLLM2 = {
    "type": "llama_cpp",
    "weights": "{data_dir}/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf",
    "context": 8192,
    "default_max_tokens": 256,  # the samples of the documentation set no limit
}
PARIS = {"name": "get_weather", "arguments": {"city": "Paris"}}
SEOUL = {"name": "get_weather", "arguments": {"city": "Seoul"}}

SCRIPTED: dict[str, Any] = {
    "Mistral-large": {
        "model": model("Mistral AI", "Mistral-large-2411", "2"),
        "provider": scripted({"text": RIEMANN}),
    },
    "Mistral-large-echo": {
        "model": model("Mistral AI", "Mistral-large-2411", "2"),
        "provider": scripted({"echo": True}),
    },
    "Mistral-large-json": {
        "model": model("Mistral AI", "Mistral-large-2411", "2"),
        "provider": scripted({"text": '{"languages": 7000}'}),
    },
    SCRIPTED_LLAMA: {
        "model": model("Meta", "Meta-Llama-3.1-405B-Instruct"),
        "provider": scripted({"text": LANGUAGES, "usage": {"prompt_tokens": 19, "completion_tokens": 72}}),
    },
    "Phi-3-mini-4k-instruct": {
        "model": model("Microsoft", "Phi-3-mini-4k-instruct", "10"),
        "provider": scripted({"echo": True}),
    },
    "Llama-3.2-11B-Vision-Instruct": {
        "model": model("Meta", "Llama-3.2-11B-Vision-Instruct"),
        "provider": scripted({"text": "A red square."}),
    },
    "Codestral-2501": {
        "model": model("Mistral AI", "Codestral-2501"),
        "provider": scripted({"text": "print('hello')"}),
    },
    "DeepSeek-R1": {
        "model": model("DeepSeek", "DeepSeek-R1"),
        "provider": scripted({"reasoning": "Let me see.", "text": "Forty-two."}),
    },
    "gpt-4o": {
        "model": model("OpenAI", "gpt-4o", "2024-11-20"),
        "provider": scripted({"text": "Hello from a script."}),
    },
    "gpt-4o-json": {
        "model": model("OpenAI", "gpt-4o", "2024-11-20"),
        "provider": scripted({"text": '{"colour": "red", "count": 3}'}),
    },
    "gpt-4o-tools": {
        "model": model("OpenAI", "gpt-4o", "2024-11-20"),
        "provider": scripted({"tool_calls": [PARIS]}),
    },
    "gpt-4o-auto": {
        "model": model("OpenAI", "gpt-4o", "2024-11-20"),
        "provider": scripted(),
    },
    "gpt-4o-tools-streamed": {
        "model": model("OpenAI", "gpt-4o", "2024-11-20"),
        "provider": scripted({"tool_calls": [PARIS, SEOUL]}),
    },
    "no-seed": {
        "model": model("Custom", "no-seed"),
        "provider": scripted({"echo": True}),
        "profile": {"seed": "unsupported"},
    },
    "multibyte": {
        "model": model("Custom", "multibyte"),
        "provider": scripted({"chunks": list(MULTIBYTE)}),
    },
    "slow": {
        "model": model("Custom", "slow"),
        "provider": scripted({"chunks": ["One. ", "Two. ", "Three."], "delay_between_chunks_seconds": 1.5}),
    },
    "dies-in-mid-stream": {
        "model": model("Custom", "dies-in-mid-stream"),
        "provider": scripted(
            {"chunks": ["The begin", "ning of", " a text"], "fault": {"status": 500}, "fault_after_chunks": 2}
        ),
    },
    "fails-at-once": {
        "model": model("Custom", "fails-at-once"),
        "provider": scripted({"fault": {"status": 500}}),
    },
    COHERE: {
        "model": model("Cohere", "Cohere-embed-v3-english", "1"),
        "provider": scripted({"embedding": {"dimensions": 1024}}),
    },
    LARGE: {
        "model": model("OpenAI", "text-embedding-3-large", "1"),
        "provider": scripted({"embedding": {"dimensions": 3072}}),
    },
}

CAREFUL = "careful"
CARELESS = "careless"
"""Of the same model, without a content filter."""
CAREFUL_LATER = "careful-later"
HARMS_OFF = dict.fromkeys(("hate", "sexual", "violence", "self_harm"), "off")
PHRASES: dict[str, Any] = {
    "prompt": {**HARMS_OFF, "jailbreak": "off", "blocklists": ["house"]},
    "completion": {**HARMS_OFF, "blocklists": ["house"]},
    "filters": ["rules"],
}
CAREFULLY: dict[str, Any] = {
    "blocklists": {"house": [{"exact": "chopping tomatoes"}]},
    "content_filters": {"phrases": PHRASES, "phrases-later": {**PHRASES, "mode": "asynchronous"}},
}
FILTERED: dict[str, Any] = {
    CAREFUL: {
        "model": model("Custom", "careful"),
        "provider": scripted(
            {"text": "Take a knife. Chopping tomatoes is easy.", "match": {"contains": "cook"}}, {"text": "Nothing."}
        ),
        "content_filter": "phrases",
    },
    CARELESS: {
        "model": model("Custom", "careful"),
        "provider": scripted({"text": "Take a knife. Chopping tomatoes is easy."}),
    },
    CAREFUL_LATER: {
        "model": model("Custom", "careful-later"),
        "provider": scripted({"text": TOMATOES}),
        "content_filter": "phrases-later",
    },
}
"""Those with a content filter, which `CAREFULLY` defines, and the same without."""

EMBEDDED_ONES: dict[str, Any] = {
    EMBEDDED: {"model": model("Hugging Face", "SmolLM2-135M-Instruct")},
    EMBEDDED_TEXTS: {"model": model("Sentence Transformers", "all-MiniLM-L6-v2")},
    EMBEDDED_IMAGES: {"model": model("Custom", "EfficientNet-Lite0-ConSE")},
    LLAMA: {"model": model("Meta", "Meta-Llama-3.1-405B-Instruct"), "provider": SMOLLM2, "default": True},
}

UNLIMITED = {"tokens_per_minute": None, "requests_per_minute": None}


def unlimited(deployments: dict[str, Any]) -> dict[str, Any]:
    """The same deployments without the usual quota: hundreds of tests use them within a minute."""
    return {name: {**deployment, "limits": UNLIMITED} for name, deployment in deployments.items()}


SERVERS: dict[str, Described] = {
    "main": Described(
        {
            "server": {"region": "Test Region", "limits": {"body_bytes": 2_000_000}},
            "engine": {"slots": 4, "context": 8192, "queue": 8},
            **CAREFULLY,
            "deployments": unlimited({**SCRIPTED, **FILTERED, **EMBEDDED_ONES}),
        },
        needs_models=True,
    ),
    "secure": Described({"deployments": unlimited(SCRIPTED)}, tls=True),
    "keyless": Described(
        {
            "providers": {"script": scripted({"text": LANGUAGES})},
            "models": [{**model("OpenAI", "gpt-4o", "2024-08-06"), "provider": "script"}],
            "deployments": unlimited(SCRIPTED),
        },
        keyless=True,
    ),
}
