import subprocess
import sys

from lla.report import html
from lla.report.contents import (
    Claim,
    Environment,
    Gallery,
    Legend,
    Outcome,
    Picture,
    Report,
)
from lla.report.view import Bar, Chip, Entry, Group, Line, Table

WHY = "no <weights>"


def report(**changes):
    bar = Bar(10.0, 5.0, 15.0, 20.0, "0 to 1")
    chips = (Chip("1", "reproduced"),)
    line = Line("K_H1", (Entry("0.5", "0.4", "close", "reduced", bar=bar, chips=chips),
                         Entry("not run", "0.1", "not_run", reason=WHY)))  # fmt: skip
    whole = Line("trained", (None, None), reason="later")
    table = Table(
        "toy", "A table", "Its legend.", ("a", "b"), (Group("Net", "m 9", (line, whole)),)
    )
    outcome = Outcome("holds", ("LeNet", "ViT"), "paper", "a note", ("a cell",))
    facts = {
        "title": "A title",
        "lead": "It says & shows.",
        "claims": (Claim("C.1", "It holds", "section 1", "numbers", (outcome,)),),
        "claims_legend": Legend((("paper", "the same"),), before="Badges:"),
        "findings": (("Found", "One.\n\nTwo."),),
        "tables": (table,),
        "tables_legend": Legend((("close", "near"), ("differs", "else")), after="That is all."),
        "galleries": (
            Gallery("shown", "Shown", (Picture("a.png", "a picture", "AAAA"),)),
            Gallery("missing", "Missing", (), absence="none yet"),
            Gallery("left-out", "Left out", ()),
        ),
        "environment": Environment("3 records.", (("torch", (("2", 3),)),), ()),
        "commands": (("Run it", "tox"),),
    }
    return Report(**{**facts, **changes})


def test_the_page_says_what_the_report_says():
    text = html.render(report(), "key")
    for part in ("<title>A title</title>", "It says &amp; shows.", 'id="claim-C.1"', "LeNet, ViT",
                 "Rests on a cell.", "1 claims, judged in 2 scopes", "<p>Two.</p>", "3 records.",
                 "Its legend. The marks below an entry", "Under a value: its error bar",
                 "≈ close</span> near; ", " else. That is all.", 'alt="a picture"', "none yet",
                 "<code>tox</code>"):  # fmt: skip
        assert part in text
    assert "Left out" not in text
    assert "plotly" not in text


def test_what_was_not_run_stands_once_in_the_head_of_its_group():
    text = html.render(report(), "key")
    assert "m 9; b not run: no &lt;weights&gt;; trained not run: later" in text
    assert text.count("no &lt;weights&gt;") == 1


def test_a_report_without_claims_has_no_section_of_them():
    assert "claims" not in html.render(report(claims=()), "key").split("</style>")[1]


def test_the_view_knows_nothing_of_papers():
    code = (
        "import sys, lla.report.html, lla.report.pages, lla.report.prose; "
        "print([m for m in sys.modules if m.startswith('paper_tables')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
