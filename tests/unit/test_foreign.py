"""Text from outside reaches a terminal, a log and JSON escaped, and what may not be said is left out."""

import ast
import io
import json
import unicodedata
from pathlib import Path

import pytest
from foreign_text import HOSTILE, hidden
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table

from stream_detector.errors import ConfigError, DataError
from stream_detector.foreign import json_line, printable, printable_lines, without_credentials
from stream_detector.runtime.logs import Terminal, report

ROOT = Path(__file__).parents[2]
ANY = st.text(st.characters(exclude_categories=()))


@example(HOSTILE)
@example("".join(map(chr, range(0x10FFFF + 1))))
@given(ANY)
def test_nothing_hidden_is_left_in_a_printable_line(text):
    """Whatever the text, it is one line that every encoding takes and no terminal obeys; what is plain stays."""
    shown = printable(text, None)
    assert hidden(shown) == []
    assert len(shown.splitlines()) <= 1
    shown.encode()
    if not hidden(text):
        assert shown == text or any(unicodedata.category(c) in {"Cf", "Cn", "Lo", "Mn"} for c in text)


@given(ANY)
def test_a_message_keeps_its_lines(text):
    """A message of several lines has as many lines afterwards."""
    assert printable_lines(text).split("\n") == [printable(line, None) for line in text.split("\n")]


@example([HOSTILE, {"\x7f": "\x85\u2028"}])
@given(st.recursive(ANY | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(ANY, inner), max_leaves=5))
def test_json_is_escaped_and_means_the_same(value):
    """Machines read the same value from what people can look at safely."""
    line = json_line(json.dumps(value, ensure_ascii=False))
    assert hidden(line) == []
    assert json.loads(line) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("http://user:canary@host:8081/x", "http://host:8081/x"),
        ("https://user:can@ry@host", "https://host"),
        ("at http://u:canary@a:1,http://v:canary@b:2, tried twice", "at http://a:1,http://b:2, tried twice"),
        ("sasl_ssl://u:canary@a:1/bootstrap: refused", "sasl_ssl://a:1/bootstrap: refused"),
        ("http://host/@x, someone@example.org", "http://host/@x, someone@example.org"),
    ],
)
def test_addresses_lose_what_is_before_the_at(text, left):
    """Neither user nor password of an address is said; the rest of the text stays."""
    assert without_credentials(text) == left


def test_a_terminal_shows_markup_and_emoji_names_as_text():
    """No text colours, breaks or moves a terminal, printed as it is, in a table or as its title."""
    out = io.StringIO()
    terminal = Terminal(file=out, width=300, force_terminal=True, color_system="truecolor")
    table = Table("[red]head", title=HOSTILE)
    table.add_row(HOSTILE)
    terminal.print(HOSTILE)
    terminal.print(table)
    styles = "\x1b[0m", "\x1b[1m", "\x1b[3m"  # rich's own, of a table's head and title
    text = out.getvalue()
    for style in styles:
        text = text.replace(style, "")
    assert hidden(text.replace("\n", "")) == []
    assert text.count("[/b]") == 3
    assert text.count(":boom:") == 3
    assert "[red]head" in text


def test_an_error_is_one_line_and_only_a_configuration_has_several(capsys):
    """No name in an error can forge another line; each fault of a configuration has its own."""
    assert report(DataError(f"a\nerror: forged {HOSTILE} http://u:canary@h")) == 3
    assert report(ConfigError("one", "two\x1b[2J")) == 2
    err = capsys.readouterr().err
    assert err.splitlines()[1:] == ["error: one", "two\\x1b[2J"]
    assert hidden(err.replace("\n", "")) == []
    assert "canary" not in err


def unsafe(tree):
    """What in a module could hand text from outside to a terminal as markup, or past the escaping."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [f"{getattr(node, 'module', '')}.{alias.name}" for alias in node.names]
            yield from (name for name in names if "markup" in name)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in {"Console", "rich.print"} or called.endswith((".from_markup", ".from_ansi")):
                yield called
            if (
                called == "TextColumn"
                and "task.description" in ast.unparse(node.args[0])
                and keywords.get("markup") != "False"
            ):
                yield ast.unparse(node)
            if keywords.get("markup", "False") != "False":
                yield ast.unparse(node)


@pytest.mark.parametrize("package", ["stream_detector", "consumers", "producers"])
def test_every_console_is_a_terminal_of_ours(package):
    """No module makes a console, or markup, of its own; `logs.Terminal` is where text is escaped."""
    found = {
        f"{path.relative_to(ROOT)}: {what}"
        for path in (ROOT / package).rglob("*.py")
        for what in unsafe(ast.parse(path.read_text()))
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "Console(stderr=True)",
        "from rich.markup import escape",
        "Text.from_markup(x)",
        "TextColumn('{task.description}')",
        "p(x, markup=True)",
    ],
)
def test_what_is_unsafe_is_found(source):
    """The check itself sees each of the ways around."""
    assert list(unsafe(ast.parse(source)))
