"""Embeddings of texts and images, and what a deployment says of itself."""

from __future__ import annotations

import base64
import struct
from typing import Any

import openai
import pytest
from azure.ai.inference import (
    ChatCompletionsClient,
    EmbeddingsClient,
    ImageEmbeddingsClient,
    load_client,
)
from azure.ai.inference.aio import EmbeddingsClient as AsyncEmbeddingsClient
from azure.ai.inference.aio import load_client as load_client_asynchronously
from azure.ai.inference.models import EmbeddingInputType, ImageEmbeddingInput, UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from .deployments import COHERE, EMBEDDED_IMAGES, EMBEDDED_TEXTS, LARGE, LLAMA, png_data_url
from .serving import Server
from .wire import Reply, send


def embed(server: Server, body: dict[str, Any], *, model: str = EMBEDDED_TEXTS, path: str = "/models") -> Reply:
    return send("POST", f"{server.url}{path}/embeddings", {"input": ["a"], "model": model, **body}, server.bearer)


def floats(encoded: str) -> list[float]:
    raw = base64.b64decode(encoded)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


@pytest.mark.parametrize("path", ["/v1", "/openai/v1", "/openai/deployments/" + EMBEDDED_TEXTS])
def test_openai_gives_vectors_no_id(server: Server, path: str) -> None:
    query = "?api-version=2024-10-21" if "deployments" in path else ""
    url = f"{server.url}{path}/embeddings{query}"
    answer = send("POST", url, {"input": ["a"], "model": EMBEDDED_TEXTS}, server.bearer).json()
    assert set(answer) == {"object", "data", "model", "usage"}
    assert (answer["object"], answer["data"][0]["object"]) == ("list", "embedding")
    assert set(answer["usage"]) == {"prompt_tokens", "total_tokens"}


@pytest.mark.check(87)
@pytest.mark.parametrize("model", [EMBEDDED_TEXTS, COHERE, LARGE])
def test_two_texts_are_two_vectors_in_order(server: Server, model: str) -> None:
    with EmbeddingsClient(server.models, AzureKeyCredential(server.key), model=model) as client:
        both = client.embed(input=["a", "b"])
        second = client.embed(input=["b"])
    assert [item.index for item in both.data] == [0, 1]
    assert both.data[1].embedding == pytest.approx(second.data[0].embedding, abs=1e-4)
    assert both.data[0].embedding != both.data[1].embedding
    assert both.usage.total_tokens == both.usage.prompt_tokens > 0
    assert both.id


@pytest.mark.check(87)
async def test_the_asynchronous_client_embeds_the_same(server: Server) -> None:
    async with AsyncEmbeddingsClient(server.models, AzureKeyCredential(server.key)) as client:
        answer = await client.embed(input=["a", "b"], model=EMBEDDED_TEXTS)
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) == 384


@pytest.mark.check(88)
@pytest.mark.parametrize("model", [EMBEDDED_TEXTS, COHERE])
def test_base64_is_the_same_vector(server: Server, model: str) -> None:
    plain = embed(server, {}, model=model).json()["data"][0]["embedding"]
    encoded = embed(server, {"encoding_format": "base64"}, model=model).json()["data"][0]["embedding"]
    assert floats(encoded) == pytest.approx(plain, abs=1e-6)
    with openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=server.key) as client:
        assert client.embeddings.create(model=model, input="a").data[0].embedding == pytest.approx(plain, abs=1e-6)


@pytest.mark.check(89)
def test_input_type_is_for_cohere(server: Server) -> None:
    with EmbeddingsClient(server.models, AzureKeyCredential(server.key)) as client:
        for kind in (EmbeddingInputType.QUERY, EmbeddingInputType.DOCUMENT, EmbeddingInputType.TEXT):
            assert len(client.embed(input=["a"], model=COHERE, input_type=kind).data[0].embedding) == 1024
        with pytest.raises(HttpResponseError) as caught:
            client.embed(input=["a"], model=LARGE, input_type=EmbeddingInputType.QUERY)
    assert caught.value.status_code == 422
    assert caught.value.response is not None
    assert caught.value.response.json()["detail"][0]["loc"] == ["body", "input_type"]


@pytest.mark.check(90)
def test_dimensions_are_for_models_that_can(server: Server) -> None:
    refused = embed(server, {"dimensions": 256}, model=COHERE)
    assert refused.status == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "dimensions"]
    assert len(embed(server, {"dimensions": 256}, model=LARGE).json()["data"][0]["embedding"]) == 256
    assert len(embed(server, {}, model=LARGE).json()["data"][0]["embedding"]) == 3072
    assert embed(server, {"dimensions": 0}, model=LARGE).status == 422
    assert embed(server, {"dimensions": 10**9}, model=LARGE).status == 422


@pytest.mark.check(91)
@pytest.mark.parametrize("path", ["/models", "/openai/v1", "/deployments/" + EMBEDDED_TEXTS])
def test_a_bare_string_is_one_input(server: Server, path: str) -> None:
    assert len(embed(server, {"input": "a"}, path=path).json()["data"]) == 1


def test_no_input_is_refused(server: Server) -> None:
    reply = embed(server, {"input": []})
    assert reply.status == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "input"]


@pytest.mark.check(92)
@pytest.mark.parametrize("model", [EMBEDDED_TEXTS, LARGE])
def test_token_arrays_are_inputs_for_the_openai_doors(server: Server, model: str) -> None:
    with openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=server.key) as client:
        assert len(client.embeddings.create(model=model, input=[[1037, 1038], [1039]]).data) == 2
        assert len(client.embeddings.create(model=model, input=[1037, 1038]).data) == 1


@pytest.mark.check(93)
@pytest.mark.parametrize(
    ("encoding", "length", "low", "high"),
    [("int8", 1024, -128, 127), ("uint8", 1024, 0, 255), ("binary", 128, -128, 127), ("ubinary", 128, 0, 255)],
)
def test_integer_encodings_have_their_lengths(server: Server, encoding: str, length: int, low: int, high: int) -> None:
    vector = embed(server, {"encoding_format": encoding}, model=COHERE).json()["data"][0]["embedding"]
    assert len(vector) == length
    assert all(isinstance(value, int) and low <= value <= high for value in vector)


@pytest.mark.check(94)
@pytest.mark.parametrize("model", [EMBEDDED_IMAGES, COHERE])
def test_an_image_has_a_vector(server: Server, model: str) -> None:
    with ImageEmbeddingsClient(server.models, AzureKeyCredential(server.key), model=model) as client:
        answer = client.embed(input=[ImageEmbeddingInput(image=png_data_url())])
    assert len(answer.data) == 1
    assert len(answer.data[0].embedding) > 100
    assert answer.usage.total_tokens > 0


@pytest.mark.check(94)
def test_an_image_with_a_text_has_a_vector_of_its_own(server: Server) -> None:
    with ImageEmbeddingsClient(server.models, AzureKeyCredential(server.key), model=EMBEDDED_IMAGES) as client:
        pair = client.embed(input=[
            ImageEmbeddingInput(image=png_data_url()),
            ImageEmbeddingInput(image=png_data_url(), text="a red square"),
        ])  # fmt: skip
    assert pair.data[0].embedding != pair.data[1].embedding


@pytest.mark.check(94)
@pytest.mark.parametrize("image", ["data:image/png;base64,AAAA", "data:text/plain;base64,AAAA", "nothing", ""])
def test_what_is_no_image_is_refused(server: Server, image: str) -> None:
    body = {"input": [{"image": image}], "model": EMBEDDED_IMAGES}
    reply = send("POST", f"{server.models}/images/embeddings", body, server.bearer)
    assert reply.status in {400, 422}


@pytest.mark.check(95)
def test_embeddings_of_a_chat_deployment_are_refused_by_surface(server: Server) -> None:
    root = send("POST", f"{server.root_of('gpt-4o')}/embeddings", {"input": ["a"]}, server.bearer)
    assert root.status == 404
    assert "not found" in root.json()["error"]["message"].lower()
    for path in ("/models", "/openai/v1", "/openai/deployments/gpt-4o"):
        reply = embed(server, {}, model="gpt-4o", path=path)
        assert reply.status == 400
        assert reply.error_code() == "OperationNotSupported"
        assert reply.json()["error"]["message"].startswith(
            "The embeddings operation does not work with the specified model, gpt-4o."
        )
    with (
        EmbeddingsClient(server.url, AzureKeyCredential(server.key)) as client,
        pytest.raises(HttpResponseError) as caught,
    ):
        client.embed(input=["a"])
    assert caught.value.status_code in {404, 405}
    assert "not found" in str(caught.value).lower() or "not allowed" in str(caught.value).lower()


@pytest.mark.check(96)
def test_the_root_says_what_the_document_shows(server: Server) -> None:
    with ChatCompletionsClient(server.url, AzureKeyCredential(server.key)) as client:
        model_info = client.get_model_info()
    assert model_info.model_name == "Meta-Llama-3.1-405B-Instruct"
    assert model_info.model_type == "chat-completions"
    assert model_info.model_provider_name == "Meta"
    # The documented request names no api-version, and sends a content type without a body.
    headers = {**server.bearer, "Content-Type": "application/json"}
    document = send("GET", f"{server.url}/info", headers=headers).json()
    assert list(document) == ["model_name", "model_type", "model_provider_name"]


@pytest.mark.check(97)
@pytest.mark.parametrize(
    ("model", "name", "kind", "provider"),
    [
        ("MISTRAL-LARGE", "Mistral-large-2411", "chat-completions", "Mistral AI"),
        (COHERE, "Cohere-embed-v3-english", "embeddings", "Cohere"),
        (EMBEDDED_IMAGES, None, "image-embeddings", None),
    ],
)
def test_models_info_selects_by_query(server: Server, model: str, name: str | None, kind: str, provider: Any) -> None:
    url = f"{server.models}/info?model={model}&api-version=2024-05-01-preview"
    document = send("GET", url, headers=server.bearer).json()
    assert document["model_type"] == kind
    assert name is None or document["model_name"] == name
    assert provider is None or document["model_provider_name"] == provider


@pytest.mark.check(97)
def test_models_info_without_a_model_is_the_default_or_refused(server: Server, secure: Server) -> None:
    assert send("GET", f"{server.models}/info", headers=server.bearer).json()["model_name"] == (
        "Meta-Llama-3.1-405B-Instruct"
    )
    with (
        ChatCompletionsClient(
            secure.models, AzureKeyCredential(secure.key), connection_verify=str(secure.ca_file)
        ) as client,
        pytest.raises(HttpResponseError) as caught,
    ):
        client.get_model_info()
    assert caught.value.status_code == 400
    assert caught.value.error.code == "no_model_name"


@pytest.mark.check(98)
@pytest.mark.parametrize(
    ("deployment", "kind"),
    [
        (LLAMA, ChatCompletionsClient),
        (EMBEDDED_TEXTS, EmbeddingsClient),
        (COHERE, EmbeddingsClient),
        (EMBEDDED_IMAGES, ImageEmbeddingsClient),
    ],
)
def test_load_client_makes_the_right_client(server: Server, deployment: str, kind: type) -> None:
    with load_client(server.root_of(deployment), AzureKeyCredential(server.key)) as client:
        assert type(client) is kind


@pytest.mark.check(98)
async def test_load_client_works_asynchronously(server: Server) -> None:
    client = await load_client_asynchronously(server.root_of("gpt-4o"), AzureKeyCredential(server.key))
    async with client:
        answer = await client.complete(messages=[UserMessage("Hello")])  # type: ignore[call-arg, union-attr]
    assert answer.choices[0].message.content


@pytest.mark.check(99)
def test_info_of_an_azure_openai_deployment_is_not_found(server: Server) -> None:
    endpoint = f"{server.url}/openai/deployments/gpt-4o"
    with (
        ChatCompletionsClient(endpoint, AzureKeyCredential(server.key), api_version="2024-06-01") as client,
        pytest.raises(ResourceNotFoundError) as caught,
    ):
        client.get_model_info()
        assert client.complete(messages=[UserMessage("Hello")]).choices
    assert "`/info` route not supported" in caught.value.message
    with pytest.raises(ResourceNotFoundError) as caught:
        load_client(endpoint, AzureKeyCredential(server.key))
    assert "`load_client` function does not work on this endpoint" in caught.value.message
    assert LLAMA
