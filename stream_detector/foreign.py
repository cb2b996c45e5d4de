"""Text that came from outside, made safe to show: on a terminal, in a log line, in JSON, in an error."""

import json
import re

__all__ = ["category", "json_line", "printable", "printable_lines", "without_credentials"]

LONGEST_CATEGORY = 100  # characters

HIDDEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters of both sets
    "\u2028\u2029"  # further ends of lines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # directions of writing, and their ends
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200d\u2060-\u2065\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"  # no width, or no look
    "\ud800-\udfff"  # halves of a pair, which no encoding takes
    "\U000e0000-\U000e0fff"  # tags
    "]"
)
CREDENTIALS = re.compile(r"//[^/\s]*@")


def printable(text: object, longest: int | None = 500) -> str:
    """What a value from outside reads as, in one line, cut at so many characters.

    What a terminal would obey or hide is escaped as Python writes it, so that it can be read.
    """
    return HIDDEN.sub(_escaped, str(text)[:longest])


def printable_lines(text: str) -> str:
    """A message of any length, escaped as by `printable` but for its line ends."""
    return "\n".join(printable(line, None) for line in text.split("\n"))


def category(value: object) -> str | None:
    """A category as it is shown, cut where it is long; None where the value is no text."""
    if not isinstance(value, str):
        return None
    return printable(value if len(value) <= LONGEST_CATEGORY else value[: LONGEST_CATEGORY - 1] + "…", None)


def json_line(document: str | bytes) -> str:
    """A JSON document, equal to the one given, with the same characters escaped as JSON has it; its line ends stay."""
    text = document if isinstance(document, str) else document.decode()
    return HIDDEN.sub(_escaped_for_json, text)


def without_credentials(text: str) -> str:
    """Text without the user and the password of the addresses in it: what stands between `//` and `@`."""
    return CREDENTIALS.sub("//", text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _escaped_for_json(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\n":  # between values; in a string JSON has no such character
        return character
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
