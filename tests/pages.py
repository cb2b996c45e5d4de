"""What the tests of the documentation read: the pages, their paragraphs and their code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
HIDDEN = {".venv", "build", "dist", "runs"}
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part in HIDDEN or part.startswith(".") for part in page.relative_to(ROOT).parts)
)
WRITTEN = [page for page in PAGES if "results" not in page.parts]  # the others are written by benchmarks

FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2[^\n]*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"#{1,6} ")
ITEM = re.compile(r"([-*]|\d+\.) +")


class Paragraph(NamedTuple):
    """Lines of one paragraph, list item or table row, and the number of the first one in the page."""

    number: int
    lines: tuple[str, ...]
    table: bool = False


def name(page: Path) -> str:
    """The page's path in the checkout, as pytest shows it."""
    return page.relative_to(ROOT).as_posix()


def text_of(markdown: str) -> str:
    """The page without blocks of code, in which brackets are no links and `#` is no heading; lines keep their numbers."""
    without_blocks = FENCED.sub(lambda block: "\n" * block.group().count("\n"), markdown)
    return re.sub(r"^    .*$", "", without_blocks, flags=re.MULTILINE)


def paragraphs(markdown: str) -> Iterator[Paragraph]:
    """Paragraphs, list items and table rows in the order of the page; headings are none of these."""
    lines: list[str] = []
    for number, line in enumerate([*text_of(markdown).split("\n"), ""], 1):
        text = line.strip()
        item = ITEM.match(text)
        if lines and (not text or item or text.startswith("|") or HEADING.match(text)):
            yield Paragraph(number - len(lines), tuple(lines))
            lines = []
        if text.startswith("|"):
            yield Paragraph(number, (text,), table=True)
        elif text and not HEADING.match(text):
            lines.append(text[item.end() :] if item else text)


def code(markdown: str) -> Iterator[str]:
    """Every piece of code of a page: what stands between backticks, and each line of the blocks."""
    yield from INLINE.findall(text_of(markdown))
    for block in FENCED.finditer(markdown):
        yield from (line.split("  #")[0].strip() for line in block.group().split("\n")[1:-1])
    yield from (line.split("  #")[0].strip() for line in markdown.split("\n") if line.startswith("    "))
