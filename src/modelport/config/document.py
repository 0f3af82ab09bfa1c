"""YAML text → plain data, with the line of every key. Bounded, so that no text can exhaust memory or the stack.

The rules are YAML 1.2's where 1.1 surprises: only `true` and `false` are booleans, `012` is twelve, dates are text.
Duplicate keys are faults; aliases and `<<` work, up to a bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from modelport.config.faults import ConfigError, Fault, Path, dotted, printable

BYTES_LIMIT: Final = 1_048_576
DEPTH_LIMIT: Final = 40
VALUES_LIMIT: Final = 50_000
"""Values in the document, aliases counted each time they are used."""

_TAG: Final = "tag:yaml.org,2002:"
_PLAIN: Final = "plain"
_NULLS: Final = ("", "~", "null", "Null", "NULL")
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data and where each part stands. `faults` are those of single values; the rest can still be checked."""

    data: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


class _TooDeep(Exception):
    """The line of the collection that is nested too deeply."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Leaves the meaning of plain scalars to `_Reader`."""

    depth = 0

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        """Called for values without an explicit tag; `implicit[0]` says that a scalar is written plainly."""
        if kind is ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)  # type: ignore[no-any-return, no-untyped-call]

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Composing recurses, so its depth is bounded here."""
        with self._one_level():
            return super().compose_mapping_node(anchor)

    def compose_sequence_node(self, anchor: Any) -> SequenceNode:
        """As for a mapping."""
        with self._one_level():
            return super().compose_sequence_node(anchor)

    @contextmanager
    def _one_level(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise _TooDeep(self.peek_event().start_mark.line + 1)  # type: ignore[no-untyped-call]
        yield
        self.depth -= 1


def read_file(file: FilePath) -> Document:
    """Reads and parses a file. Raises ConfigError."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(BYTES_LIMIT + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "not a path"
        raise ConfigError([Fault(str(file), None, "", f"cannot be read: {reason}")]) from None
    return read_document(raw, str(file))


def read_document(raw: bytes, source: str) -> Document:
    """Parses one YAML document whose top is a mapping. Raises ConfigError when nothing can be made of it."""
    if len(raw) > BYTES_LIMIT:
        raise ConfigError([Fault(source, None, "", f"is larger than {BYTES_LIMIT:,} bytes")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError([Fault(source, line, "", "is not UTF-8 text")]) from None
    try:
        root = yaml.compose(text, _Loader)
    except _TooDeep as exc:
        raise ConfigError([Fault(source, exc.line, "", f"is nested deeper than {DEPTH_LIMIT} levels")]) from None
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = ", ".join(part for part in (exc.problem, exc.context) if part)
        what = f"is not valid YAML: {printable(problem, 160)}"
        raise ConfigError([Fault(source, mark.line + 1 if mark is not None else None, "", what)]) from None
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise ConfigError([Fault(source, line, "", "holds a character that YAML does not allow")]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as exc:
        # For example an escape beyond Unicode. The library's own text may quote the file, so it stays untold.
        raise ConfigError([Fault(source, None, "", f"is not valid YAML ({type(exc).__name__})")]) from None
    if root is None or (isinstance(root, ScalarNode) and root.tag == _PLAIN and root.value in _NULLS):
        return Document({})
    if not isinstance(root, MappingNode):
        raise ConfigError([Fault(source, root.start_mark.line + 1, "", "must be a mapping of settings")])
    reader = _Reader(source)
    data = reader.mapping(root, ())
    return Document(data, reader.lines, tuple(reader.faults))


class _Reader:
    """Turns nodes into data, noting lines and faults on the way."""

    def __init__(self, source: str) -> None:
        self.lines: dict[Path, int] = {}
        self.faults: list[Fault] = []
        self._source = source
        self._values = 0
        self._open: set[int] = set()

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        """The mapping at `path`. What `<<` brings in comes last, so that keys written beside it win."""
        data: dict[str, Any] = {}
        seen: dict[str, int] = {}
        merges: list[Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._fault(line, path, "a key must be plain text")
            elif key_node.value == "<<" and key_node.tag == _PLAIN:
                merges.append(value_node)
            elif (key := _joined(key_node.value)) is None:
                self._fault(line, path, "a key holds half a surrogate pair, which is no text")
            elif key in seen:
                self._fault(line, (*path, key), f"is given twice (first at line {seen[key]})")
            else:
                seen[key] = line
                self.lines.setdefault((*path, key), line)
                data[key] = self._value(value_node, (*path, key))
        for merge in merges:
            for name, value in self._merged(merge, path):
                data.setdefault(name, value)
        return data

    def _merged(self, node: Node, path: Path) -> Iterator[tuple[str, Any]]:
        for part in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(part, MappingNode):
                self._fault(node.start_mark.line + 1, path, "'<<' must name another mapping, or a list of them")
            else:
                yield from self._value(part, path).items()

    def _value(self, node: Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > VALUES_LIMIT:
            raise ConfigError([Fault(self._source, line, dotted(path), f"holds more than {VALUES_LIMIT:,} values")])
        if id(node) in self._open:
            raise ConfigError([Fault(self._source, line, dotted(path), "is an alias of a value that contains it")])
        self.lines.setdefault(path, line)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if len(path) > DEPTH_LIMIT:  # by aliases
            raise ConfigError([Fault(self._source, line, "", f"is nested deeper than {DEPTH_LIMIT} levels")])
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            self._fault(line, path, f"the tag {printable(node.tag)} is not allowed")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, path)
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        line, text = node.start_mark.line + 1, _joined(node.value)
        if text is None:
            self._fault(line, path, "holds half a surrogate pair, which is no text")
            return None
        if node.tag == _TAG + "str":
            return text
        if node.tag not in (_PLAIN, _TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
            self._fault(line, path, f"the tag {printable(node.tag)} is not allowed")
            return None
        value = _plain(text)
        if isinstance(value, float) and not math.isfinite(value):
            self._fault(line, path, "is not a finite number")
            return None
        return value

    def _fault(self, line: int, path: Path, what: str) -> None:
        self.faults.append(Fault(self._source, line, dotted(path), what))


def _joined(text: str) -> str | None:
    """Text whose surrogate pairs (JSON's way to escape what is beyond U+FFFF) are characters; None with half a pair."""
    if not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        return None


def _plain(text: str) -> Any:
    if text in _NULLS:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if len(text) > 40:  # no number that a setting can hold
        return text
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
