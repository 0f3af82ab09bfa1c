"""Run inside a network namespace of its own: starts a server there and talks to it with the genuine clients.

There is nothing but a loopback, so whatever the server or its embedded models wanted from elsewhere would fail.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct

import openai
from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, ImageEmbeddingsClient
from azure.ai.inference.models import ImageEmbeddingInput, UserMessage
from azure.core.credentials import AzureKeyCredential

from .deployments import EMBEDDED, EMBEDDED_IMAGES, EMBEDDED_TEXTS, SERVERS, png_data_url
from .serving import running
from .wire import send

GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 0x1


def raise_loopback() -> None:
    """A new namespace has its loopback down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", 0)
        (flags,) = struct.unpack("16xh", fcntl.ioctl(control, GET_FLAGS, request)[:18])
        fcntl.ioctl(control, SET_FLAGS, struct.pack("16sh", b"lo", flags | UP))


def has_network() -> bool:
    try:
        with socket.create_connection(("192.0.2.1", 9), timeout=1):
            return True
    except TimeoutError:
        return True
    except OSError:
        return False


def main() -> None:
    raise_loopback()
    seen: dict[str, object] = {"network": has_network()}
    with running(SERVERS["main"].configuration) as server:
        credential = AzureKeyCredential(server.key)
        hello = [UserMessage("Hello")]
        body = {"messages": [{"role": "user", "content": "Hello"}], "model": EMBEDDED, "max_tokens": 4}
        seen["chat"] = send("POST", f"{server.models}/chat/completions", body, server.bearer).status
        streamed = send("POST", f"{server.models}/chat/completions", {**body, "stream": True}, server.bearer)
        seen["stream"] = streamed.body.decode().strip().split("data: ")[-1]
        with ChatCompletionsClient(server.models, credential) as chat:
            chat.complete(messages=hello, model="mistral-large")
        with EmbeddingsClient(server.models, credential) as texts:
            seen["embeddings"] = len(texts.embed(input=["a"], model=EMBEDDED_TEXTS).data[0].embedding)
        with ImageEmbeddingsClient(server.models, credential) as images:
            answer = images.embed(input=[ImageEmbeddingInput(image=png_data_url())], model=EMBEDDED_IMAGES)
            seen["images"] = 200 if answer.data else 0
        with openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=server.key) as other:
            answered = other.chat.completions.create(
                model=EMBEDDED, messages=[{"role": "user", "content": "Hello"}], max_tokens=4
            )
            seen["openai"] = bool(answered.choices)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
