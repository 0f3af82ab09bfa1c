"""Image embeddings: pictures within bounds, texts in the same space, the operator's own pair, and the embedded one."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import tiny_onnx
from PIL import Image

from modelport.engine import weights
from modelport.engine.backend import WorkerError
from modelport.engine.backends import onnx_image_embeddings
from modelport.engine.backends.onnx_image_embeddings import OnnxImageEmbeddings
from modelport.engine.onnx.image_models import conse
from modelport.engine.onnx.session import ModelFileError

PHOTOGRAPHS = Path(__file__).parent / "photographs"
PLAIN = {"mean": [0, 0, 0], "std": [1, 1, 1]}


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(colour: Any, *, mode: str = "RGB", size: tuple[int, int] = (10, 10), form: str = "PNG", **save: Any) -> str:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, form, **save)
    return data_url(buffer.getvalue())


def unit(*numbers: float) -> np.ndarray:
    vector = np.array(numbers, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def vectors(answer: dict[str, Any]) -> np.ndarray:
    return np.array([one["embedding"] for one in answer["data"]], dtype=np.float32)


RED = (255, 0, 0)
BLUE = (0, 0, 255)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """A pair: the mean colour of an image, and texts that name colours."""
    return {
        "weights": str(tiny_onnx.write_image_model(tmp_path / "image.onnx")),
        "text_weights": str(tiny_onnx.write_text_model(tmp_path / "text.onnx", pooled=True)),
        "tokenizer": str(tiny_onnx.write_tokenizer(tmp_path / "words.json")),
        "threads": 1,
        **PLAIN,
    }


@pytest.fixture
def data_dir() -> Path:
    """Where this machine keeps pulled weights."""
    return Path(os.environ.get("MODELPORT_DATA_DIR", "~/.local/share/modelport")).expanduser()


@pytest_asyncio.fixture
async def pair(options: dict[str, Any]) -> AsyncIterator[OnnxImageEmbeddings]:
    backend = await onnx_image_embeddings.open(options)
    yield backend
    await backend.close()


async def refused(backend: OnnxImageEmbeddings, *entries: Any, **request: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await backend.image_embeddings({"input": list(entries), **request})
    return caught.value


async def test_an_image_becomes_its_models_vector(pair: OnnxImageEmbeddings) -> None:
    answer = await pair.image_embeddings({"input": [{"image": picture(RED)}, {"image": picture(BLUE)}]})
    np.testing.assert_allclose(vectors(answer), [unit(1, 0, 0, 0), unit(0, 0, 1, 0)], atol=1e-6)
    assert answer["usage"] == {"prompt_tokens": 2, "total_tokens": 2, "prompt_patches": 2, "total_patches": 2}
    assert pair.operations == {"image_embeddings", "embeddings"}


async def test_an_image_with_a_text_is_the_mean_of_both_unit_vectors(pair: OnnxImageEmbeddings) -> None:
    entries = [{"image": picture(RED), "text": "blue"}, {"text": "blue"}, {"image": picture(RED)}]
    answer = await pair.image_embeddings({"input": entries})
    both, text, image = vectors(answer)
    np.testing.assert_allclose(both, unit(*(text + image)), atol=1e-6)
    np.testing.assert_allclose(text, unit(0, 0, 6, 2), atol=1e-6)
    assert answer["usage"]["prompt_tokens"] == 2 + 3 + 3
    assert answer["usage"]["prompt_patches"] == 2


async def test_texts_alone_are_embedded_in_the_same_space(pair: OnnxImageEmbeddings) -> None:
    red = vectors(await pair.embeddings({"input": ["red", "green"]}))
    image = vectors(await pair.image_embeddings({"input": [{"image": picture(RED)}]}))[0]
    assert float(red[0] @ image) > 0.9
    assert float(red[1] @ image) < 0.1


async def test_without_a_text_model_only_images_are_taken(options: dict[str, Any]) -> None:
    backend = await onnx_image_embeddings.open({name: options[name] for name in ("weights", "threads", "mean", "std")})
    assert backend.operations == {"image_embeddings"}
    error = await refused(backend, {"image": picture(RED), "text": "red"})
    assert (error.code, error.param) == ("parameter_not_supported", "input.0.text")
    await backend.close()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
async def test_the_usual_formats_are_read(pair: OnnxImageEmbeddings, form: str) -> None:
    answer = await pair.image_embeddings({"input": [{"image": picture(RED, form=form)}]})
    np.testing.assert_allclose(vectors(answer)[0], unit(1, 0, 0, 0), atol=0.02)


@pytest.mark.parametrize(
    ("colour", "mode", "expected"),
    [
        ((255, 0, 0, 0), "RGBA", unit(1, 1, 1, 0)),
        ((255, 0, 0, 255), "RGBA", unit(1, 0, 0, 0)),
        (128, "L", unit(1, 1, 1, 0)),
        (0x8000, "I;16", unit(1, 1, 1, 0)),
        ((255, 0), "LA", unit(1, 1, 1, 0)),
        (1, "1", unit(1, 1, 1, 0)),
    ],
)
async def test_every_kind_of_pixel_is_read_with_white_behind_what_is_transparent(
    pair: OnnxImageEmbeddings, colour: Any, mode: str, expected: np.ndarray
) -> None:
    answer = await pair.image_embeddings({"input": [{"image": picture(colour, mode=mode)}]})
    np.testing.assert_allclose(vectors(answer)[0], expected, atol=0.01)


async def test_only_the_centre_square_counts(pair: OnnxImageEmbeddings) -> None:
    wide = Image.new("RGB", (90, 30), BLUE)
    wide.paste(RED, (28, 0, 62, 30))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    answer = await pair.image_embeddings({"input": [{"image": data_url(buffer.getvalue())}]})
    np.testing.assert_allclose(vectors(answer)[0], unit(1, 0, 0, 0), atol=0.01)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that announces very many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hello",
        "data:image/png,abc",
        "data:image/png;base64,???",
        data_url(b""),
        data_url(b"GIF89a"),
        data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        data_url(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "application/postscript"),
        data_url(bomb(100, 100)),
        data_url(bomb(8_000, 8_000)),
        data_url(bomb(20_000, 20_000)),
        data_url(bomb(2**31 - 1, 2**31 - 1)),
        picture(RED)[:-30],
        "data:" + ";a" * 100_000,
    ],
    ids=lambda url: f"{url[:30]}…{len(url)}",
)
async def test_what_is_no_readable_image_is_refused(pair: OnnxImageEmbeddings, url: str) -> None:
    error = await refused(pair, {"image": picture(RED)}, {"image": url})
    assert (error.status, error.code, error.param) == (422, "invalid_value", "input.1.image")
    assert "base64," not in error.message or "…" in error.message


async def test_images_are_not_fetched_from_the_network(pair: OnnxImageEmbeddings) -> None:
    error = await refused(pair, {"image": "https://example.com/cat.png"})
    assert (error.status, error.code) == (422, "parameter_not_supported")


async def test_large_files_are_refused_before_they_are_decoded(options: dict[str, Any]) -> None:
    backend = await onnx_image_embeddings.open({**options, "image_bytes": 200})
    assert len((await backend.image_embeddings({"input": [{"image": picture(RED)}]}))["data"]) == 1
    error = await refused(backend, {"image": picture(RED, size=(300, 300), compress_level=0)})
    assert "200 bytes" in error.message
    await backend.close()


@pytest.mark.parametrize(
    ("entries", "param"),
    [
        ([], "input"),
        ([{}], "input.0.image"),
        (["data:image/png;base64,"], "input.0"),
        ([{"image": 7}], "input.0"),
        ([{"image": "x", "audio": "y"}], "input.0"),
        ([{"text": ["red"]}], "input.0"),
    ],
)
async def test_entries_of_another_shape_are_refused(pair: OnnxImageEmbeddings, entries: list[Any], param: str) -> None:
    error = await refused(pair, *entries)
    assert (error.status, error.param) == (422, param)


async def test_other_parameters_are_checked_as_for_texts(pair: OnnxImageEmbeddings) -> None:
    entry = {"image": picture(RED)}
    assert (await refused(pair, entry, dimensions=2)).param == "dimensions"
    assert (await refused(pair, entry, input_type="poem")).param == "input_type"
    assert (await refused(pair, entry, encoding_format="ubinary")).param == "encoding_format"
    assert (await refused(pair, entry, detail="high")).param == "detail"


async def test_too_many_entries_are_refused(options: dict[str, Any]) -> None:
    backend = await onnx_image_embeddings.open({**options, "inputs": 2})
    assert (await refused(backend, *[{"image": picture(RED)}] * 3)).param == "input"
    await backend.close()


async def test_a_pair_that_is_none_is_named_when_opening(options: dict[str, Any], tmp_path: Path) -> None:
    minilm = weights.worker_options("all-minilm-l6-v2", tmp_path)
    assert minilm is not None
    for wrong, words in (
        ({"text_weights": minilm["weights"], "tokenizer": minilm["tokenizer"]}, "they are no pair"),
        ({"weights": options["text_weights"]}, "no image model"),
        ({"size": 16}, "8 by 8"),
        ({"std": [1, 0, 1]}, "'std'"),
        ({"mean": "grey"}, "'mean'"),
        ({"weights": None}, "'weights'"),
    ):
        with pytest.raises(ModelFileError, match=words):
            await onnx_image_embeddings.open({**options, **wrong})


def test_conse_is_the_weighted_mean_of_the_likeliest_labels() -> None:
    labels = np.eye(30, dtype=np.float32)
    probabilities = np.zeros((1, 30), dtype=np.float32)
    probabilities[0, 3], probabilities[0, 7] = 0.6, 0.2
    mixed = conse(probabilities, labels)[0]
    np.testing.assert_allclose(mixed[[3, 7]], [0.75, 0.25], rtol=1e-6)
    assert np.count_nonzero(mixed) == 2


@pytest.mark.embedded
async def test_the_embedded_model_finds_the_photograph_that_a_text_names(data_dir: Path) -> None:
    options = weights.worker_options("efficientnet-lite0-conse", data_dir)
    if options is None:
        pytest.skip("efficientnet-lite0-conse is not pulled")
    backend = await onnx_image_embeddings.open({**options, "threads": 1})
    names = ("cat", "coffee", "rocket")
    entries = [{"image": data_url((PHOTOGRAPHS / f"{name}.jpg").read_bytes(), "image/jpeg")} for name in names]
    images = vectors(await backend.image_embeddings({"input": entries}))
    texts = vectors(await backend.embeddings({"input": ["a photo of a cat", "a cup of coffee", "a rocket launch"]}))
    assert images.shape == (3, 384)
    assert (texts @ images.T).argmax(axis=1).tolist() == [0, 1, 2]
    await backend.close()


async def test_the_pictures_of_one_call_are_decoded_up_to_a_sum_of_pixels(options: dict[str, Any]) -> None:
    backend = await onnx_image_embeddings.open({**options, "image_pixels": 100})
    entry = {"image": picture(RED)}
    assert len((await backend.image_embeddings({"input": [entry] * 4}))["data"]) == 4
    with pytest.raises(WorkerError, match="more than 400 pixels together") as caught:
        await backend.image_embeddings({"input": [entry] * 5})
    assert (caught.value.status, caught.value.param) == (422, "input.4.image")
    photograph = {"image": picture(RED, size=(2000, 2000), form="JPEG")}
    await backend.close()
    roomy = await onnx_image_embeddings.open({**options, "image_pixels": 4_000_000})
    assert len((await roomy.image_embeddings({"input": [photograph] * 8}))["data"]) == 8
    await roomy.close()
