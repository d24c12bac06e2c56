import dataclasses
import functools
import hashlib
import html.parser
import re
from pathlib import Path

import pytest
from markupsafe import Markup, escape
from PIL import Image

from lla.report import html as report_html
from paper_tables.engine import claims as judging
from paper_tables.engine import content, report, store, summary
from paper_tables.engine.exhibit import Drawing, Exhibit, Finding
from paper_tables.engine.records import Source, write_records
from paper_tables.exhibits import find
from paper_tables.exhibits.table1 import plots as surfaces
from paper_tables.exhibits.table2 import plots as spectra
from paper_tables.paper import claims, tables
from tests.paper_tables import planted
from tests.paper_tables.exhibits.table1.test_figures import bowl
from tests.paper_tables.exhibits.table2.test_figures import spectrum

ROOT = Path(__file__).resolve().parents[3]
VOID = {"meta", "img", "hr", "br", "input", "link"}
STAGES = ("random/eval", "during/eval", "pretrained/eval")


class Page(html.parser.HTMLParser):
    """The elements of a page: open ones must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.cells, self.loaded, self.ids, self.links = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        names = ("src", "srcset", "data", "action", "poster")
        self.loaded += [found[name] for name in names if name in found]
        if tag in ("link", "iframe", "object", "base"):
            self.loaded.append(tag)
        if tag == "td":
            self.cells.append([found.get("class"), ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1][1] += data

    def cell(self, text):
        """Class and text of the first cell that begins with a text."""
        return next(cell for cell in self.cells if cell[1].startswith(text))


def write(records, results, findings=()):
    """Write the report, with the figures that are there and with more findings."""
    found = [Finding(title, text) for title, text in findings]
    exhibits = [*find(), Exhibit("more", "", findings=lambda records: found)]
    kinds = {"landscape": "surfaces", "hesd": "spectra"}
    drawings = [
        Drawing(path.stem, kinds.get(path.stem.split("_")[0], "figures"), path.stem, (), None)
        for path in sorted((results / "figures").glob("*.png"))
    ]
    judgements = judging.judge(records, exhibits)
    gather = functools.partial(content.gather, exhibits, records, judgements, drawings, results)
    report.write(gather, records, drawings, results)


def judged(results):
    return judging.judge(store.published(results), find())


def artifact(folder, name, result):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    result.save(path)
    return Source(name, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def results(tmp_path, make_records):
    """A folder of results with some of everything."""
    folder = tmp_path / "results"
    folder.mkdir()
    found = make_records({"kh1": 0.5, "kh05": 0.97}, column="random/train", fidelity="reduced")
    found += make_records({"kh1": 0.98}, column="random/eval", fidelity="paper")
    found += make_records(
        {"kh1": 0.4}, row="vit", column="random/train", fidelity="substitute", data="sample-crops"
    )
    found += make_records(
        row="alexnet",
        column="pretrained/eval",
        compute=None,
        reason="no <weights> & none",
        config={},
    )
    for i, column in enumerate(STAGES):
        source = artifact(folder, f"spectra/{i}.npz", spectrum(i, 0.5))
        found += make_records(
            {"loss": 0.1 * i}, column=column, table="hesd", artifact=lambda *_, s=source: s,
            config={"m": 40},
        )  # fmt: skip
    for row, method, ratio in (("lenet", "4", 1e3), ("lenet", "output", 2.0)):
        source = artifact(folder, f"planes/{row}-{method}.npz", bowl(ratio * 2.3, points=11))
        found += planted.plane(
            row, "pretrained", method=method, ratio=ratio, points=11, artifact=source
        )
    found += planted.plane("lenet", "random", method="2", ratio=1e6, points=11)
    for record in found:
        write_records(store.records_file(folder, record.table, record.row), [record])
    report_figure = folder / "figures" / "hesd_lenet_mnist.png"
    report_figure.parent.mkdir()
    Image.new("RGB", (3, 2)).save(report_figure)
    return folder


@pytest.fixture
def written(results):
    """The page as text and as elements."""
    write(store.published(results), results)
    text = (results / "report.html").read_text()
    return text, Page(text)


def test_the_page_loads_nothing_from_elsewhere(written):
    text, page = written
    assert all(place.startswith("data:image/webp;base64,") for place in page.loaded)
    assert not re.search(r"@import|url\(|https?://", text)
    assert "default-src 'none'" in text
    (policy,) = [a for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert "connect-src" not in policy["content"]  # so the default, none


def test_every_claim_and_table_is_there(written):
    _, page = written
    assert {f"claim-{claim.id}" for claim in claims()} <= set(page.ids)
    assert {"table1", "table2", "table4", "normalization"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors <= set(page.ids)


def test_a_cell_has_value_error_paper_verdict_and_fidelity(written):
    _, page = written
    kind, text = page.cell("0.500 ± 0.010")
    assert kind == "differs"
    for part in ("paper 0.99", "✗ differs", "◈ reduced"):
        assert part in text
    for fact in ("mnist, sha256 abababababab", "m 100", "3 probes", "2 x 512 examples", "seed 0",
                 "over 2 batches", "table2 lenet random/train kh1"):  # fmt: skip
        assert fact in text
    kind, text = page.cell("0.980 ± 0.010")
    assert kind == "reproduced"
    assert "◆ paper" in text
    kind, text = page.cell("0.400 ± 0.010")
    assert kind is None
    assert "◇ substitute" in text
    assert "paper 0.99" in text


def test_table_1_shows_a_verdict_on_each_normalization(written):
    _, page = written
    kind, text = page.cell("yes 4 ?1,2,3")
    assert kind == "reproduced"
    assert "4 ✓" in text
    assert "paper yes 1,3,4" in text
    assert "4: ratio 1e+03, explodes (lower bound)" in text
    kind, text = page.cell("yes 2 ?1,3,4")
    assert kind == "differs"
    assert "2 ✗" in text


def test_what_was_not_run_says_why(written):
    text, page = written
    assert "no &lt;weights&gt; &amp; none" in text
    assert any(kind == "not_run" and "paper 0.97" in cell for kind, cell in page.cells)


@pytest.mark.hard_use("HTML and scripts in records are text in the report")
def test_texts_are_escaped(results):
    records = store.published(results)
    evil = "</script><script>alert(1)</script><b>"
    changed = [
        dataclasses.replace(r, note=evil, data=r.data and Source(evil, r.data.sha256))
        if r.value is not None
        else r
        for r in records
    ]
    linked = "[<u>](a/b_1.png), [c](javascript:d) and [0, 1](2)"
    findings = [("<i>", f"{evil}\n\nagain"), ("B", Markup("<p>as it is</p>")), ("C", linked)]
    write(changed, results, findings)
    text = (results / "report.html").read_text()
    assert "<script>alert" not in text
    assert "<b>" not in text.replace("<p><b>", "")
    assert "<h2>&lt;i&gt;</h2>" in text
    assert "<p>again</p>" in text
    assert "<p>as it is</p>" in text
    assert '<p><a href="a/b_1.png">&lt;u&gt;</a>, [c](javascript:d) and [0, 1](2)</p>' in text
    assert len([tag for tag, _ in Page(text).tags if tag == "script"]) == 3


def test_the_same_records_give_the_same_bytes(results, tmp_path):
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for part in ("planes", "spectra", "figures"):
            (tmp_path / name / part).symlink_to(results / part)
        write(store.published(results), tmp_path / name)
        pages.append([(tmp_path / name / f).read_bytes() for f in ("report.html", "README.md")])
    assert pages[0] == pages[1]
    assert str(tmp_path).encode() not in b"".join(pages[0])


def test_a_page_is_written_only_for_something_new(results):
    page = results / "report.html"
    records = store.published(results)
    write(records, results)
    before = page.stat().st_mtime_ns
    write(records, results)
    assert page.stat().st_mtime_ns == before
    write(records[1:], results)
    after = page.stat().st_mtime_ns
    assert after > before
    Image.new("RGB", (2, 2)).save(results / "figures" / "other.png")
    write(records[1:], results)
    assert page.stat().st_mtime_ns > after


def test_without_records_it_says_what_was_not_run(tmp_path):
    write([], tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert {"claims", "table1", "table2", "table4", "normalization"} <= set(page.ids)
    assert "no record yet" in text
    assert len(text) < 300_000, "without a plot there is no plotly.js"
    markdown = (tmp_path / "README.md").read_text()
    assert "0 records with a value" in markdown


def test_the_markdown_has_verdicts_tables_figures_and_commands(written, results):
    text = (results / "README.md").read_text()
    assert text.index("## Claims") < text.index("## Tables") < text.index("## Figures")
    for claim in claims():
        assert f"| {claim.id} |" in text
    assert "0.500 ± 0.010 (0.99) differs [reduced]" in text
    assert "0.400 ± 0.010 (0.99) [substitute]" in text
    assert "](figures/hesd_lenet_mnist.png)" in text
    assert text.count("```sh\n") == 2
    assert "tox -e tables" in text


def test_both_pages_list_what_fails_and_by_how_much(written, results):
    text, _ = written
    markdown = (results / "README.md").read_text()
    (failing,) = [p for p in summary.points(judged(results), store.published(results))
                  if p.text.startswith("Fails in every scope")]  # fmt: skip
    assert failing.items
    for item in failing.items:
        assert f"\n  - {item}\n" in markdown
        assert f"<li>{escape(item)}</li>" in text
    assert f"\n- {failing.text}\n" in markdown


def test_a_table_with_nothing_to_show_is_a_link_to_its_page(results, make_records):
    records = make_records(
        {"kh1": 0.5}, "as it is", table="lenet_study", fidelity="reduced", config={"m": 100}
    )
    write([*store.published(results), *records], results)
    markdown = (results / "README.md").read_text()
    title = "LeNet after training: what was tried for the paper's criteria"
    assert f"\n- {title}: [lenet_study.md](lenet_study.md)\n" in markdown
    assert not re.search(r"\n### [^\n]*\n\s*\n### ", markdown), "no heading without a text"
    assert "### Table 2" in markdown


def test_the_plots_are_valid_figures_of_plotly(results):
    import plotly.graph_objects as go

    records = store.published(results)
    planes = [plot.data for plot in surfaces.plots(records, results)]
    assert [s["name"].split(", ")[-1] for s in planes] == ["filter L2", "'output'"]
    (curves,) = [plot.data for plot in spectra.plots(records, results)]
    assert [t["name"] for t in curves["data"] if "name" in t] == [
        "at initialisation, eval mode [reduced]",
        "during training, eval mode [reduced]",
        "after training, eval mode [reduced]",
    ]
    for plot in [*planes, curves]:
        figure = go.Figure(data=plot["data"], layout=plot["layout"])
        assert len(figure.data) == len(plot["data"])
    height, dot = planes[0]["data"]
    assert len(height["z"]) == 11
    assert dot["x"] == dot["y"] == [0.0]
    assert dot["z"] == [height["z"][5][5]]


def test_a_point_that_is_not_finite_is_a_gap(results):
    import numpy as np

    broken = bowl(1.0, points=11)
    broken.loss[0, 0] = np.inf
    source = artifact(results, "planes/broken.npz", broken)
    records = planted.plane("lenet", "pretrained", nonfinite=1, points=11, artifact=source)
    (surface,) = [plot.data for plot in surfaces.plots(records, results)]
    assert surface["data"][0]["z"][0][0] is None
    assert "null" in report_html.render_json(surface)


def test_the_report_of_this_repository_is_small_enough(tmp_path):
    folder = ROOT / "results"
    for part in ("planes", "spectra", "figures"):
        if (folder / part).is_dir():
            (tmp_path / part).symlink_to(folder / part)
    write(store.published(folder), tmp_path)
    page = tmp_path / "report.html"
    assert page.stat().st_size < 8e6
    text = page.read_text()
    assert str(ROOT) not in text
    assert all(entry["title"] in text for name, entry in tables().items() if name in
               ("table1", "table2", "table4"))  # fmt: skip
    assert len((tmp_path / "README.md").read_text().splitlines()) < 500
