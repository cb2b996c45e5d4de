"""How an alert reads on a terminal: what happened where, how rare it is, and which features say so."""

from rich.text import Text

from stream_detector.records import Alert, Contribution, printable

__all__ = ["one_in", "view"]

FEATURES = 4  # shown of each alert; the others are counted
BAR = 16  # cells
EIGHTHS = " ▏▎▍▌▋▊▉█"
ARROWS = {"high": "▲", "low": "▼", "expected": "◇", "unexpected": "◆", "missing": "○"}
COLOURS = {"critical": "bold white on red", "major": "bold red", "minor": "bold yellow", "warning": "bold cyan"}
RAREST = 9.0  # nines; beyond it a number says no more than "never seen"


def view(alert: Alert) -> Text:
    """The alert as a block of lines, safe to print whatever its text holds."""
    block = Text(no_wrap=True, overflow="ignore")
    severity = printable(alert.severity)
    block.append(f" {severity.upper()} ", COLOURS.get(severity, "bold"))
    block.append(f" {_words(alert.entity, 'no entity')}", "bold")
    block.append(f"  {_words(alert.event_time, 'no event time')}\n")
    block.append(f"   score {alert.score:.2f} over threshold {alert.threshold:.2f}: {one_in(alert.score)}\n")
    block.append(f"   record {_words(alert.event_id, 'without id')}, alert {printable(alert.id)}\n", "dim")
    shown = alert.contributions[:FEATURES]
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*map(_cells, shown), strict=True)]
    for contribution in shown:
        _append(block, contribution, widths)
    if left := alert.contributions[FEATURES:]:
        rest = sum(float(contribution.contribution) for contribution in left)
        block.append(f"     and {len(left)} more features, together {rest:.0%}\n", "dim")
    return block


def one_in(score: float) -> str:
    """How rare a score in nines is among normal records, in words."""
    if not score < RAREST:  # nor is NaN
        return "rarer than 1 normal record in 1,000,000,000"
    number = 10 ** max(score, 0.0)
    digits = max(len(str(int(number))) - 2, 0)
    return f"1 normal record in {round(number, -digits):,.0f}"


def _append(block: Text, contribution: Contribution, widths: list[int]) -> None:
    name, observed, expected = (cell.ljust(width) for cell, width in zip(_cells(contribution), widths, strict=True))
    share = min(max(float(contribution.contribution), 0.0), 1.0)
    style = "yellow" if contribution.direction in {"high", "unexpected"} else "cyan"
    block.append(f"   {ARROWS.get(contribution.direction, '•')} ", style)
    block.append(f"{name}  {observed}  expected {expected}  ")
    block.append(_bar(share), style)
    block.append(f" {share:4.0%}\n")


def _cells(contribution: Contribution) -> tuple[str, str, str]:
    return printable(contribution.feature), _amount(contribution.value), _amount(contribution.expected)


def _bar(share: float) -> str:
    eighths = round(share * BAR * 8)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).ljust(BAR)[:BAR]


def _amount(value: float | str | None) -> str:
    if value is None:
        return "missing"
    if isinstance(value, str):
        return printable(value)
    size = abs(float(value))
    return f"{value:,.0f}" if 1_000 <= size < 1e12 else f"{value:.4g}"


def _words(text: str | None, absent: str) -> str:
    return absent if text is None else printable(text)
