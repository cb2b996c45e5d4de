"""The pages are easy to read and to review: short paragraphs, one sentence a line."""

import re

import pytest
from pages import PAGES, WRITTEN, Paragraph, name, paragraphs

MOST_WORDS = 90
INLINE = re.compile(r"`[^`]*`")
TARGET = re.compile(r"\]\([^)]*\)")
END = re.compile(r"[.!?][)\"”'*_]*(?=\s+[A-Z0-9`\"“(\[*_<$−±∂Σ])")
CLOSED = re.compile(r"[.!?:][)\"”'*_]*$")
ABBREVIATED = ("et al.", "e.g.", "i.e.", "cf.")
LEAD = re.compile(r"\*\*[^*]*[.:!?]\*\*$")  # bold words that open a paragraph belong to its first sentence


def too_long(markdown):
    """The paragraphs, list items and table cells of more than 90 words; a link counts as its text."""
    for paragraph in paragraphs(markdown):
        text = TARGET.sub("]", " ".join(paragraph.lines))
        cells = re.split(r"(?<!\\)\|", text) if paragraph.table else [text]
        for words in (len(cell.split()) for cell in cells):
            if words > MOST_WORDS:
                yield f"line {paragraph.number}: {words} words"


def misplaced(markdown):
    """The lines that hold more than one sentence, or not a whole one."""
    for paragraph in paragraphs(markdown):
        if not paragraph.table:
            yield from _misplaced(paragraph)


def _misplaced(paragraph: Paragraph):
    for number, line in enumerate(paragraph.lines, paragraph.number):
        shown = TARGET.sub("]", INLINE.sub("`x`", line))
        if any(not _goes_on(shown[: end.end()]) for end in END.finditer(shown)):
            yield f"line {number}: more than one sentence"
        last = number == paragraph.number + len(paragraph.lines) - 1
        if not last and not CLOSED.search(shown):
            yield f"line {number}: the sentence goes on in the next line"


def _goes_on(text):
    return text.endswith(ABBREVIATED) or bool(LEAD.match(text))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_paragraph_of_a_page_is_long(page):
    """A paragraph, a list item and a table cell have at most 90 words."""
    assert list(too_long(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_each_sentence_of_a_page_has_a_line(page):
    """A line of a paragraph holds one whole sentence, so that a changed sentence is a changed line."""
    assert list(misplaced(page.read_text(encoding="utf-8"))) == []


def test_long_paragraphs_are_found():
    """The check itself: 91 words in a paragraph, in an item and in a cell are found; 90, code and blank lines are not."""
    long, short = "word " * 91, "word " * 90

    assert list(too_long(f"{long}\n\n- {long}\n- {short}\n\n| a | {long}|\n")) == [
        "line 1: 91 words",
        "line 3: 91 words",
        "line 6: 91 words",
    ]
    assert not list(too_long(f"{short}\n\n{short}\n# Heading\n{short}\n```\n{long}\n```\n    {long}\n"))


def test_misplaced_sentences_are_found():
    """The check itself: two sentences in a line and a broken one are found; links, code and abbreviations are not."""
    assert list(misplaced("One. Two.\n\n- Three is (four). `Five` is code.\n  Six\n  goes on.")) == [
        "line 1: more than one sentence",
        "line 3: more than one sentence",
        "line 4: the sentence goes on in the next line",
    ]
    assert not list(
        misplaced(
            "**A lead.** One, as Dai et al. 2025 say: `a. B` and 0.5.\nTwo:\n- [it](x.md. Y)\n\n| One. Two. | x |\n"
            "```\nOne. Two.\n```\nThree (see above)."
        )
    )
