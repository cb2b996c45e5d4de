"""The configuration file as values, each with its line; `${NAME}` is filled in from the environment.

A line of the file may hold a secret, so faults are told by line and column, never by its text.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stream_detector.errors import ConfigError
from stream_detector.foreign import printable

__all__ = ["Document", "Key", "read"]

Key = tuple[int | str, ...]
"""Where a value stands: names of keys and numbers of items, from the outermost in."""

MAX_CONFIG_BYTES = 1 << 20
PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
STANDARD = "tag:yaml.org,2002:"
PLAIN = {STANDARD + "map", STANDARD + "seq"}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NEVER_SECRET = {  # what the parser says without quoting the line
    "mapping values are not allowed here",
    "could not find expected ':'",
    "found unexpected end of stream",
    "found unexpected document separator",
}


@dataclass(slots=True)
class Document:
    """A file's values; `lines` from 1; `filled` holds what came from environment variables, by its text."""

    path: Path | None = None
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Key, int] = field(default_factory=dict)
    filled: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def where(self, key: Key) -> str:
        """The file, and the line of a value, or of what should hold it."""
        name = printable(self.path) if self.path else "configuration"
        line = next((self.lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self.lines), None)
        return f"{name}:{line}" if line else name

    def without_filled(self, text: str) -> str:
        """The text with the names of environment variables in place of what they held."""
        for value, name in sorted(self.filled.items(), key=lambda item: -len(item[0])):
            if len(value) > 2:  # a shorter one stands anywhere
                for form in (value, repr(value)[1:-1]):
                    text = text.replace(form, f"${{{name}}}")
        return text


def read(path: Path, environment: Mapping[str, str] = os.environ) -> Document:
    """The document at `path`. Raises `ConfigError`, which has a line for each fault."""
    document = Document(path)
    root = _root(path, document.where(()))
    if root is not None:
        if not isinstance(root, yaml.MappingNode) and (root.tag in PLAIN or isinstance(root, yaml.ScalarNode)):
            raise ConfigError(f"{document.where(())}: holds a {_kind(root)}; expected sections such as 'kafka:'")
        document.values = _Reader(document, environment).value(root, ())
    if document.faults:
        raise ConfigError(*document.faults)
    return document


def _root(path: Path, name: str) -> yaml.Node | None:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{name}: larger than {MAX_CONFIG_BYTES:,} bytes; this is no configuration file")
        text = path.read_bytes().decode("utf-8-sig")
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError(f"{name}:{line}: YAML aliases are not allowed; write values out, or quote the text")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror}); check the path given with -c") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: not valid YAML: the file is not UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{name}: not valid YAML: it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ConfigError(_syntax(name, error)) from None


def _syntax(name: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    begun = getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None)
    said = f": {problem}" if problem in NEVER_SECRET else ""
    place = f":{mark.line + 1}" if mark else ""
    column = f", column {mark.column + 1}" if mark else ""
    since = f" (of what begins in line {begun.line + 1})" if mark and begun and begun.line != mark.line else ""
    return f"{name}{place}: not valid YAML{column}{since}{said}; the text of the line is not shown, it may be secret"


class _Reader:
    """Makes values of nodes, and notes their lines and what is wrong with them."""

    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self._document, self._environment = document, environment
        self._plain = yaml.SafeLoader("")

    def value(self, node: yaml.Node, key: Key) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in PLAIN:
            self._fault(node, "not valid YAML: tags are not allowed")
            return None
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, key))
        return [self._noted(item, (*key, number)) for number, item in enumerate(node.value)]

    def _entries(self, node: yaml.MappingNode, key: Key) -> Iterator[tuple[str, Any]]:
        for name, value in node.value:
            if name.tag != STANDARD + "str":
                self._fault(name, "every key must be text")
                continue
            inner = (*key, name.value)
            if inner in self._document.lines:
                self._fault(name, f"the same key stands in line {self._document.lines[inner]} already; keep one")
            self._document.lines[inner] = name.start_mark.line + 1
            yield name.value, self.value(value, inner)

    def _noted(self, node: yaml.Node, key: Key) -> Any:
        self._document.lines[key] = node.start_mark.line + 1
        return self.value(node, key)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            value = self._plain.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            self._fault(node, "not valid YAML: no number, date or text that YAML knows; put text in quotes")
            return None
        return self._filled(node, value) if isinstance(value, str) and "${" in value else value

    def _filled(self, node: yaml.Node, text: str) -> str:
        def fill(match: re.Match[str]) -> str:
            name, end = match[1], match[2]
            if name is None:
                return "${"
            if not end or not NAME.fullmatch(name):
                self._fault(node, "a placeholder is written ${NAME}; for these characters themselves write $${")
            elif name not in self._environment:
                self._fault(node, f"${{{name}}}: the environment variable {name} is not set")
            else:
                self._document.filled[self._environment[name]] = name
            return self._environment.get(name, "")

        return PLACEHOLDER.sub(fill, text)

    def _fault(self, node: yaml.Node, what: str) -> None:
        mark = node.start_mark
        name = self._document.where(())
        self._document.faults.append(f"{name}:{mark.line + 1}: column {mark.column + 1}: {what}")


def _kind(node: yaml.Node) -> str:
    return "list" if isinstance(node, yaml.SequenceNode) else "single value"
