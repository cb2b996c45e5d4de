"""Text as hostile as it comes, and what of it a terminal would obey or nobody would see."""

import unicodedata

HOSTILE = "\x1b]0;x\x07[/b]\x9b2J\u202e\u2066\u200b\ufeff\udcff\U000e0041:boom:\r\nforged: x"
UNSEEN = {*"\u034f\u115f\u1160\u3164\uffa0\xad\u180e\u061c\ufeff", *map(chr, range(0x200B, 0x2010))}
DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def hidden(text):
    """Characters that a terminal obeys, that end a line, that turn the direction, or that nobody sees."""
    return [
        c
        for c in text
        if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(c) in DIRECTIONS
        or c in UNSEEN
        or 0xE0000 <= ord(c) < 0xE1000
    ]
