"""`modelport models`: the weights that can run here, fetched, checked and removed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.output import ExitCode, application, fail, write_json, write_line, write_table
from modelport.cli.settings import ConfigOption, DataDirOption, client_settings
from modelport.config.sources import Flags
from modelport.engine import weights
from modelport.engine.weights import CATALOGUE, Weights, WeightsError, WeightsFault, WeightsState

if TYPE_CHECKING:
    from modelport.engine.weights.pull import Progress

app = application(help="List, pull, verify and remove the models that run here.", no_args_is_help=True)

NamesArgument = Annotated[
    list[str], typer.Argument(help="Names of `modelport models list`; `default` or `all` for several.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]

_EXIT_CODES = {
    WeightsFault.UNKNOWN_NAME: ExitCode.NOT_FOUND,
    WeightsFault.ABSENT: ExitCode.WEIGHTS_MISSING,
    WeightsFault.DAMAGED: ExitCode.WEIGHTS_MISSING,
    WeightsFault.HASH_MISMATCH: ExitCode.DOWNLOAD_FAILED,
    WeightsFault.NO_NETWORK: ExitCode.DOWNLOAD_FAILED,
    WeightsFault.NOT_IN_INDEX: ExitCode.DOWNLOAD_FAILED,
    WeightsFault.CONVERSION_FAILED: ExitCode.EXTRA_MISSING,
    WeightsFault.NO_PIP: ExitCode.EXTRA_MISSING,
    WeightsFault.DISK_FULL: ExitCode.DATA_DIR_UNUSABLE,
    WeightsFault.NOT_WRITABLE: ExitCode.DATA_DIR_UNUSABLE,
}
_PURPOSES = {"chat_completions": "chat", "embeddings": "texts", "image_embeddings": "images"}
_PLAIN_STEPS = 4
"""Without a terminal, a line for every quarter of a download."""


@app.callback()
def models() -> None:
    """List, pull, verify and remove the models that run here."""


@app.command("list")
def list_models(config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show every model: what it is for, its sizes and licence, and whether it is here.

    Example: modelport models list
    """
    folder = _data_dir(config, data_dir)
    if as_json:
        write_json([_facts(entry, folder) for entry in CATALOGUE.values()])
        return
    write_table(
        ("NAME", "FOR", "STATE", "DOWNLOAD", "ON DISK", "LICENCE"),
        [
            (
                entry.name + (" *" if entry.default else ""),
                _PURPOSES[entry.operation],
                weights.look(entry, folder).state,
                _megabytes(entry.download_bytes),
                _megabytes(entry.disk_bytes),
                entry.licence,
            )
            for entry in CATALOGUE.values()
        ],
    )
    write_line()
    for entry in CATALOGUE.values():
        write_line(f"{entry.name}: {entry.summary}")
    write_line(
        "* what `modelport models pull default` fetches, and what `modelport serve` runs when nothing is configured"
    )


@app.command()
def pull(names: NamesArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Fetch models from the package index that pip uses, check them and put them into the data directory.

    Example: modelport models pull qwen2.5-coder-0.5b
    """
    folder = _data_dir(config, data_dir)
    show = _show_bar if sys.stdout.isatty() else _show_lines
    try:
        for entry in _chosen(names):
            found = weights.look(entry, folder)
            if found.path is not None:
                write_line(f"{entry.name}: already here ({found.state})")
                continue
            show(entry, folder)
    except WeightsError as error:
        fail(_EXIT_CODES[error.fault], str(error))
    except KeyboardInterrupt:
        fail(ExitCode.INTERRUPTED, "interrupted; the same command goes on where it ended")


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Which; default: all that are here.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Read every byte of the weights that are here and compare it with what was published.

    Example: modelport models verify
    """
    folder = _data_dir(config, data_dir)
    try:
        for entry in _chosen(names or ["all"]):
            state = weights.verify(entry.name, folder)
            if names and state is WeightsState.ABSENT:
                raise WeightsError(WeightsFault.ABSENT, f"The weights of {entry.name!r} are not here.")
            if state is not WeightsState.ABSENT:
                write_line(f"{entry.name}: good ({state})")
    except WeightsError as error:
        fail(_EXIT_CODES[error.fault], str(error))


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="Names of `modelport models list`.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete pulled weights from the data directory. Installed packages stay: pip removes those.

    Example: modelport models remove qwen2.5-coder-0.5b
    """
    folder = _data_dir(config, data_dir)
    try:
        for entry in _chosen(names):
            removed = weights.remove(entry.name, folder)
            write_line(f"{entry.name}: {'removed' if removed else 'nothing to remove'}")
    except WeightsError as error:
        fail(_EXIT_CODES[error.fault], str(error))


def _data_dir(config: Path | None, data_dir: Path | None) -> Path:
    return client_settings(config, Flags(data_dir=data_dir)).data_dir


def _chosen(names: list[str]) -> list[Weights]:
    """The named entries, each once, in the order of the names. Raises WeightsError before anything is fetched."""
    chosen: dict[str, Weights] = {}
    for name in names:
        if name.lower() in ("default", "all"):
            entries = [entry for entry in CATALOGUE.values() if entry.default or name.lower() == "all"]
        else:
            entries = [weights.find(name)]
        chosen |= {entry.name: entry for entry in entries}
    return list(chosen.values())


def _show_bar(entry: Weights, folder: Path) -> None:
    """Pulls with a bar that stays on the screen when it is full."""
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    from modelport.engine.weights.pull import pull as fetch

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Display(*columns) as display:
        tasks: dict[str, TaskID] = {}

        def progress(step: str, done_bytes: int, total_bytes: int) -> None:
            if step not in tasks:
                tasks[step] = display.add_task(f"{entry.name}: {step}", total=total_bytes or None)
            display.update(tasks[step], completed=done_bytes)

        fetch(entry.name, folder, progress)


def _show_lines(entry: Weights, folder: Path) -> None:
    """Pulls with a few lines that a log can keep."""
    from modelport.engine.weights.pull import pull as fetch

    path = fetch(entry.name, folder, _line_writer(entry.name, write_line))
    write_line(f"{entry.name}: ready at {path}")


def _line_writer(name: str, write: Callable[[str], None]) -> Progress:
    """A progress that writes a line when a step begins and at every quarter of it."""
    written: dict[str, int] = {}

    def progress(step: str, done_bytes: int, total_bytes: int) -> None:
        quarter = done_bytes * _PLAIN_STEPS // total_bytes if total_bytes else 0
        if written.get(step, -1) < quarter:
            written[step] = quarter
            write(
                f"{name}: {step} {_megabytes(done_bytes)} of {_megabytes(total_bytes)}"
                if total_bytes
                else f"{name}: {step}"
            )

    return progress


def _facts(entry: Weights, folder: Path) -> dict[str, Any]:
    found = weights.look(entry, folder)
    return {
        "name": entry.name,
        "summary": entry.summary,
        "operation": entry.operation,
        "backend": entry.backend,
        "model": {
            "format": entry.model.format,
            "name": entry.model.name,
            "version": entry.model.version,
            "publisher": entry.model.publisher,
        },
        "licence": entry.licence,
        "default": entry.default,
        "download_bytes": entry.download_bytes,
        "disk_bytes": entry.disk_bytes,
        "packages": [f"{piece.package}=={piece.version}" for piece in entry.pieces],
        "state": found.state,
        "path": None if found.path is None else str(found.path),
    }


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
