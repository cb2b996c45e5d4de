"""The pages: what they link to is there."""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from pages import PAGES, ROOT, name, text_of

LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def anchor(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Every anchor of a page; of equal headings the second is `name-1`."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text_of(page.read_text(encoding="utf-8")), re.MULTILINE):
        name = anchor(heading)
        found.append(f"{name}-{found.count(name)}" if name in found else name)
    return frozenset(found)


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    markdown = re.sub(r"`[^`\n]*`", "", text_of(page.read_text(encoding="utf-8")))
    return [link for link in LINK.findall(markdown) if not ELSEWHERE.match(link) and not leads_somewhere(page, link)]


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, name = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not name or (target.suffix == ".md" and name in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_and_anchor_of_a_page_exists(page):
    """A reader who follows a link arrives."""
    assert not broken(page)


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    """The check itself: a missing file, a missing anchor, and what only looks like a link."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A `word`, twice\n# A word, twice\n[a](#a-word-twice) [b](#a-word-twice-1) [c](page.md#a-word-twice)\n"
        "[gone](gone.md) [no anchor](page.md#gone) [itself](#gone)\n"
        "`[code](no.md)`\n```\n# no heading\n[code](no.md)\n```\n[out](https://example.org/x#y)\n"
    )
    assert broken(page) == ["gone.md", "page.md#gone", "#gone"]


def test_every_page_of_the_folder_docs_is_reachable():
    """Each page is linked from the README, or from a page that is."""
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for link in LINK.findall(text_of(page.read_text(encoding="utf-8"))):
            target = (page.parent / link.partition("#")[0]).resolve()
            if not ELSEWHERE.match(link) and target.suffix == ".md" and target not in seen and target.exists():
                waiting.append(target)
    assert not set((ROOT / "docs").glob("*.md")) - seen


def test_the_version_is_the_newest_release_of_the_changelog():
    """Every release has its section, the newest first below what is not released yet; sections are the usual ones."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert releases[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", releases[1])
    assert releases[1:] == sorted(releases[1:], key=lambda release: release.split(" - ")[1], reverse=True)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {"Added", "Changed", "Removed", "Fixed", "Security"}
