"""Other people's text on a terminal: shown, and none of it acts."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from fleet.cli.output import new_figure
from fleet.cli.plain_console import PlainConsole
from fleet.telemetry.logs import set_up_logs
from fleet.text import LINE_BREAK, plain, plain_label, plain_lines

OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What Rich writes for its own styles and live views."""
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
HOSTILE = "[red]x[/] \x1b[31my\x1b]0;t\x07 \x9b31mz \x85 a\rb \u202eevil \ud800 :smile: [link=u]"


@given(st.text())
def test_no_text_keeps_what_acts_on_a_terminal(text: str) -> None:
    for shown in (plain(text), plain_lines(text), plain_label(text)):
        assert not ACTS.search(shown)
        shown.encode()
    assert "\n" not in plain(text)


@given(st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == plain_lines(text) == text


def test_a_line_break_in_a_name_is_seen_as_one() -> None:
    assert plain("a\r\nb\u2028c") == f"a{LINE_BREAK}b{LINE_BREAK}c"
    assert plain_lines("a\r\nb\u2028c") == "a\nb\nc"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_nothing_that_is_drawn_acts(is_terminal: bool) -> None:
    out = StringIO()
    console = PlainConsole(file=out, force_terminal=is_terminal, width=200)
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE, style="red"))
    console.print(table)
    console.print(HOSTILE, Text(HOSTILE))
    with Live(table, console=console), Progress(console=console) as bars:
        bars.add_task("own")
    with console.status(plain(HOSTILE)):
        pass
    shown = OWN.sub("", out.getvalue())
    assert not ACTS.search(shown.replace("\r", ""))
    assert "[red]x[/]" in shown
    assert ":smile:" in shown


def test_no_line_of_the_logs_acts(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    import structlog

    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        set_up_logs("info", str)
        structlog.get_logger("test").error(HOSTILE, reason=HOSTILE, spaceless="a\x1b[31mb")
        logging.getLogger("celery.test").error("Task %s received", HOSTILE)
    finally:
        root.handlers[:], _ = before
        root.setLevel(before[1])
        structlog.reset_defaults()
    shown = capsys.readouterr().err
    assert "received" in shown
    assert not ACTS.search(shown)


def test_a_label_of_a_plot_is_no_formula() -> None:
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.set_title(plain_label(r"$\frac{$ and $\nothing$"))
    figure.canvas.draw()
    assert axes.get_title() == r"\$\frac{\$ and \$\nothing\$"
