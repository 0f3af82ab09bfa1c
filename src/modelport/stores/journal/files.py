"""Where journals lie: `<writer>.<number>.jsonl`, one chain of numbered files for each writing process, and its lock."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

SUFFIX: Final = ".jsonl"
UNFINISHED_SUFFIX: Final = ".new"
UNREADABLE_SUFFIX: Final = ".unreadable"
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


class JournalInUse(Exception):
    """Another process writes this journal."""

    def __init__(self, directory: Path, writer: str) -> None:
        super().__init__(f"another process writes the journal {writer!r} in {directory}")


def file_path(directory: Path, writer: str, number: int) -> Path:
    """The file of this number."""
    return directory / f"{writer}.{number:08d}{SUFFIX}"


def files_of(directory: Path, writer: str) -> list[Path]:
    """One writer's files, oldest first."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if writer_of(path) == writer)


def writers_in(directory: Path) -> list[str]:
    """Everyone who has left files."""
    return sorted({writer_of(path) for path in directory.glob(f"*{SUFFIX}")})


def writer_of(path: Path) -> str:
    """Whose file it is."""
    return path.name.split(".", 1)[0]


def free_path(path: Path) -> Path:
    """This path, or with a number behind it where files of that name exist."""
    found, number = path, 0
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found


def number_of(path: Path) -> int:
    """Its place in the chain."""
    return int(path.name.split(".")[1])


def make_directory(directory: Path) -> None:
    """Makes it for its owner alone."""
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)


def check_writable(descriptor: int, path: Path) -> None:
    """Whether the open file is still the one at `path`, and its file system takes bytes. Raises OSError."""
    opened = os.fstat(descriptor)
    found = path.stat() if opened.st_nlink else None
    if found is None or (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino):
        raise FileNotFoundError(errno.ENOENT, "its file was removed")
    system = os.fstatvfs(descriptor)
    if system.f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if system.f_blocks and not (system.f_bavail if os.geteuid() else system.f_bfree):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lock(directory: Path, writer: str) -> int:
    """Takes the writer's lock, which ends with the descriptor or the process. Raises JournalInUse."""
    descriptor = os.open(directory / f"{writer}.lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalInUse(directory, writer) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_all(descriptor: int, data: bytes, size: int) -> None:
    """Appends `data` to a file of `size` bytes: all of it, or nothing. One `os.write`, unless the kernel takes less.

    Raises OSError; the file is then as long as it was."""
    write_rest(descriptor, data, os.write(descriptor, data), size)


def write_rest(descriptor: int, data: bytes, written: int, size: int) -> None:
    """The same where so many bytes have been written."""
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise
