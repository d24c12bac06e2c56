import re

import pandas as pd
import pytest

from lla.report import pages
from lla.report.prose import fill
from lla.report.text import csv_table, markdown_table
from lla.report.view import Entry, Group, Line, Table, Trace, absences

WHY = "no weights & no 100 % of_the data"
TRACES = (Trace("", (("seed", "0"),)),)


@pytest.fixture
def table():
    """Two networks, one of which lacks a column, and one that was not run."""
    measured = Entry("0.5 ± 0.1", "0.4", "close", "reduced", "4 seeds", traces=TRACES)
    legacy = Entry("0.7", "0.9", "differs", "reduced", traces=TRACES)
    absent = Entry("not run", "0.1", "not_run", reason=WHY)
    return Table(
        id="toy",
        title="Toy: a table",
        legend="What it shows: “all”.",
        columns=("first", "second", "never"),
        groups=(
            Group("LeNet", "m 100", (Line("K_H1", (measured, absent, None)),
                                     Line("r_e", (legacy, None, None), "a remark", "paper")),
                  "reduced", kind="plain"),
            Group("LeNet", "m 20", (Line("K_H1", (legacy, None, None)),), kind="legacy"),
            Group("ViT", "", (Line("trained", (None, None, None), reason="later"),)),
        ),
        heads=("network", "criterion"),
    )  # fmt: skip


def rows(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_an_entry_has_value_paper_verdict_fidelity_and_remark(table):
    header, _, first, *_ = rows(pages.grid(table))
    assert header == ["network", "settings", "criterion", "", "first", "second"]
    assert first[0:4] == ["LeNet", "m 100 [reduced]", "K_H1", ""]
    assert first[4] == "0.5 ± 0.1 (0.4) close [reduced], 4 seeds"


def test_a_reason_stands_once_and_what_lacks_it_refers_to_it(table):
    text = pages.grid(table)
    body = rows(text)[2:]
    assert body[0][5] == "not run, note 1 (0.1)"
    assert body[1][:4] == ["", "", "r_e", "a remark [paper]"]
    assert body[3][:4] == ["ViT", "", "trained", "not run, note 2"]
    assert text.endswith(f"1. {WHY}\n2. later")
    assert text.count(WHY) == 1


def test_columns_that_are_empty_throughout_are_left_out(table):
    assert "never" not in pages.grid(table)
    bare = Table("x", "x", "", ("a",), (Group("", "", (Line("one", (Entry("1"),)),)),))
    assert rows(pages.grid(bare))[0] == ["", "a"]


def test_verdicts_are_counted_by_kind(table):
    assert pages.summary(table) == (
        "Cells by verdict: plain: 1 close, 1 differs; legacy: 1 differs; 1 not run."
    )
    one = Table("x", "x", "", table.columns, table.groups[:1])
    assert pages.summary(one) == "Cells by verdict: 1 close, 1 differs, 1 not run."
    assert pages.summary(Table("x", "x", "", (), ())) == ""


def test_a_markdown_page(table):
    empty = Table("empty", "Nothing yet", "", (), ())
    text = pages.markdown([table, empty], "How an entry is read.")
    assert text.startswith("# Toy: a table\n\nHow an entry is read.\n\nWhat it shows")
    assert "\n## Nothing yet\n\nnot run: no record yet\n" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_latex_has_the_shape_that_compiles(table):
    text = pages.latex([table, Table("empty", "Nothing yet", "", (), ())], "*How* it is read.")
    for part in (r"\begin{table}", r"\toprule", r"\bottomrule", r"\end{tabular}", r"\end{table}"):
        assert text.count(part) == 1
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    found = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(found) == 1 + 4
    assert {len(re.findall(r"(?<!\\)&", line)) for line in found} == {5}
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    without = re.sub(r"\$[^$\n]*\$", "", uncommented).replace("{%\n", "{")
    assert not re.search(r"(?<!\\)[%#_^~*]", without)
    assert "$" not in without.replace(r"\$", "")
    assert text.isascii(), "plain ASCII needs no input encoding"
    braces = re.sub(r"\\[{}]", "", text)
    assert braces.count("{") == braces.count("}")
    assert r"1. no weights \& no 100 \% of\_the data" in text


def test_the_terminal_shows_what_was_measured(table):
    text = pages.terminal([table])
    assert text.splitlines()[0] == "Toy: a table"
    assert "LeNet  m 100 [reduced]" in text
    assert "0.5 ± 0.1 (0.4) ~ [reduced], 4 seeds" in text
    assert "0.7 (0.9) x [reduced]" in text
    assert "ViT" not in text
    assert WHY not in text
    assert pages.terminal([Table("x", "x", "", (), ())]) == ""


def test_the_terminal_shows_long_tables_only_if_there_are_no_others(table):
    folded = Table("long", "Long", "", table.columns, table.groups, folded=True)
    assert "Long" not in pages.terminal([table, folded])
    assert "Long" in pages.terminal([folded])


def test_what_was_not_run_names_its_columns(table):
    first, _, last = table.groups
    assert absences(table, first) == [f"second not run: {WHY}"]
    assert absences(table, last) == ["trained not run: later"]
    alone = Group("AlexNet", "", (Line("K_H1", (first.lines[0].entries[1], None, None)),))
    assert absences(table, alone) == [f"not run: {WHY}"]


def test_a_page_of_prose_is_filled_with_tables_and_numbers(table, tmp_path):
    template = tmp_path / "page.md.j2"
    template.write_text("# {{ n }} & more\n\n{% if n %}\n{{ table|grid }}\n{% endif %}\nend\n")
    assert fill(template, n=3, table=table) == f"# 3 & more\n\n{pages.grid(table)}\nend\n"
    with pytest.raises(Exception, match="undefined"):
        fill(template, n=3)


@pytest.mark.hard_use("A cell that a spreadsheet would compute is a quoted text in CSV files")
def test_formulas_are_texts_in_csv():
    cells = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "-0.5", "+3", "fine"]
    frame = pd.DataFrame({"=name": cells, "value": range(-1, 7)})
    header, *lines = csv_table(frame).splitlines()
    assert header == "'=name,value"
    quoted = [line.rsplit(",", 1)[0] for line in lines]
    assert quoted == [*(f"'{cell}" for cell in cells[:5]), *cells[5:]]
    assert lines[0].endswith(",-1")


@pytest.mark.hard_use("Raw HTML in a cell or a note is text in Markdown pages")
def test_html_is_text_in_markdown():
    table = markdown_table([["<script>alert(1)</script>", "a < b", "<!-- x"]], ["<b>", "", ""])
    assert "<script>" not in table.replace(r"\<script>", "")
    assert r"\<script>alert(1)\</script>" in table
    assert r"\<b>" in table
    assert "a < b" in table
    assert r"\<!-- x" in table


@pytest.mark.parametrize("kind", [object, "string"])
def test_formulas_are_texts_in_csv_beside_missing_ones_and_in_a_part_of_a_table(kind):
    notes = pd.Series(["first", "=1+1", None, "last"], dtype=kind)
    frame = pd.DataFrame({"note": notes, "value": range(4)})
    assert csv_table(frame[1:]).splitlines() == ["note,value", "'=1+1,1", ",2", "last,3"]
    assert frame["note"][1] == "=1+1"
