"""Adapters, the float64 reference and its judgement; what costs is not looked at here."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from benchmarks import reference, view
from benchmarks.isolate import Peak, isolated
from benchmarks.peers import libraries
from benchmarks.peers import records as peers_records
from benchmarks.peers.judgement import TOLERANCE, Judgement, judge
from benchmarks.peers.libraries import ADAPTERS, Adapter, EqualWork, Measurement, Quadrature
from benchmarks.peers.view import EXHIBIT, library
from benchmarks.publish import publish
from paper_tables.engine.records import read_records

WORK = EqualWork("lenet", (1, 32, 32), 4, 1, steps=12, probes=2)
TWO = EqualWork("lenet", (1, 32, 32), 2, 2, steps=12, probes=2)
BY_NAME = {adapter.name: adapter for adapter in ADAPTERS}


# --- the reference


def quadratic():
    """A network whose Hessian is known: half of it is 2 / n x'x for each of two outputs."""
    model = torch.nn.Linear(3, 2, bias=False).double()
    pairs = [(torch.randn(n, 3, dtype=torch.float64), torch.zeros(n).long()) for n in (4, 2)]
    return model, pairs


def test_products_are_those_of_the_explicit_hessian():
    model, pairs = quadratic()
    product, size = reference.products(model, pairs)
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))

    def loss(theta):
        return torch.nn.functional.cross_entropy(x @ theta.view(2, 3).T, y)

    hessian = torch.autograd.functional.hessian(loss, model.weight.detach().reshape(-1))
    found = np.stack([product(row) for row in np.eye(size)])
    np.testing.assert_allclose(found, hessian.numpy(), atol=1e-14)


def test_largest_eigenvalues_and_moments_of_a_known_matrix():
    values = np.array([9.0, 5.0, 3.0, 2.0, 1.5, 1.0, 0.5, -4.0])

    def product(vector):
        return values * vector

    np.testing.assert_allclose(reference.largest(product, 8), values[:6], rtol=1e-7)
    start = np.arange(1.0, 9.0)
    weights = start**2 / (start @ start)
    expected = [(weights * values**k).sum() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(reference.moments(product, start), expected)


# --- the judgement

TOP = np.array([9.0, 5.0, 3.0, 2.0, 1.5, 1.0])


def spectrum(nodes, weights=None):
    nodes = np.array(nodes, dtype=float)
    weights = np.full(nodes.shape, 1 / nodes.shape[1]) if weights is None else np.array(weights)
    return Quadrature(nodes, weights, nodes.size, np.ones(8))


def exact(found):
    return np.array([(found.weights[0] * found.nodes[0] ** k).sum() for k in (1, 2, 3, 4)])


def test_the_right_spectrum_is_correct_in_any_order():
    found = spectrum([[0.1, 9.0, 5.0, 3.0, 2.0, 1.5], [9.0, 5.0, 3.0, 2.0, 1.5, 0.2]])
    judged = judge(found, TOP, exact(found))
    assert judged == Judgement(0.0, 0, 0.0)
    assert judged.correct


def test_a_copy_is_wrong_although_it_is_an_eigenvalue():
    found = spectrum([[9.0, 9.0, 5.0, 3.0, 2.0, 1.5]])
    judged = judge(found, TOP, exact(found))
    assert (judged.copies, judged.correct) == (1, False)
    assert judged.reason == "1 copies among the largest eigenvalues"


def test_a_close_pair_of_eigenvalues_is_no_copy():
    top = np.array([9.0, 5.0, 3.0, 2.0, 1.5, 1.4999])
    found = spectrum([[9.0, 5.0, 3.0, 2.0, 1.5, 1.4999]])
    assert judge(found, top, exact(found)).correct


@pytest.mark.parametrize(("off", "correct"), [(5e-4, True), (2e-3, False)])
def test_eigenvalues_may_be_off_by_a_thousandth(off, correct):
    found = spectrum([[9.0, 5.0, 3.0 * (1 + off), 2.0, 1.5, 0.1]])
    judged = judge(found, TOP, exact(found))
    assert judged.correct == correct
    assert bool(judged.reason) != correct


def test_wrong_weights_are_seen_in_the_moments():
    found = spectrum([[9.0, 5.0, 3.0, 2.0, 1.5, 0.1]])
    judged = judge(found, TOP, exact(found) * np.array([1, 1, 1.01, 1]))
    assert judged.reason == "moments off by 9.9e-03"


# --- adapters


@pytest.mark.parametrize("work", [WORK, TWO], ids=str)
@pytest.mark.parametrize("name", BY_NAME)
def test_every_library_does_the_same_work_and_its_moments_are_judged(name, work):
    failure = BY_NAME[name].missing()
    if failure:
        pytest.skip(failure)
    try:
        found = isolated(libraries.measure, name, work).result
    except Exception as error:
        if name == "lla":
            raise
        pytest.xfail(peers_records.in_words(error))
    quadrature = found.quadrature
    assert quadrature.nodes.shape == quadrature.weights.shape == (work.probes, work.steps)
    assert quadrature.products == work.probes * work.steps
    np.testing.assert_allclose(quadrature.weights.sum(1), 1, atol=1e-3)
    assert found.seconds > 0 < found.passes
    product, size = reference.products(*work.make(torch.float64))
    assert quadrature.start.shape == (size,)
    exact = reference.moments(product, quadrature.start)
    own = [(quadrature.weights[0] * quadrature.nodes[0] ** k).sum() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(own, exact, rtol=5e-3)


def test_ours_is_correct():
    work = EqualWork("lenet", (1, 32, 32), 4, 1, steps=40, probes=1)
    product, size = reference.products(*work.make(torch.float64))
    found = libraries.measure("lla", work).quadrature
    judged = judge(found, reference.largest(product, size), reference.moments(product, found.start))
    assert judged.correct, judged.reason


def test_what_is_absent_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.delenv(libraries.PYHESSIAN, raising=False)
    monkeypatch.delenv(libraries.AUTHORS, raising=False)
    assert BY_NAME["lla"].missing() is None
    monkeypatch.setattr(libraries.util, "find_spec", lambda _: None)
    reasons = {adapter.name: adapter.missing() for adapter in ADAPTERS}
    assert reasons.pop("authors' LLA") == f"{libraries.AUTHORS} names no checkout with src_lla"
    assert all("pip install -c constraints.txt -e '.[peers]'" in why for why in reasons.values())
    monkeypatch.setenv(libraries.PYHESSIAN, str(tmp_path))
    assert "names has no pyhessian" in BY_NAME["PyHessian"].missing()
    (tmp_path / "src" / "src_lla").mkdir(parents=True)
    monkeypatch.setenv(libraries.AUTHORS, str(tmp_path))
    assert BY_NAME["authors' LLA"].missing() is None


def test_a_checkout_goes_before_what_is_installed(monkeypatch, tmp_path):
    package = tmp_path / "src" / "pyhessian"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "hessian.py").write_text("raise RuntimeError('planted')\n")
    monkeypatch.setenv(libraries.PYHESSIAN, str(tmp_path))
    assert (BY_NAME["PyHessian"].missing(), BY_NAME["PyHessian"].version) == (None, "checkout")
    with pytest.raises(RuntimeError, match="planted"):
        isolated(libraries.measure, "PyHessian", WORK)


# --- records and table


def entries(name="lla", copies=0, slower=1):
    quadrature = Quadrature(np.ones((2, 12)), np.ones((2, 12)), 24, np.ones(3))
    times = [s * slower for s in (0.48, 0.50, 0.53)]
    found = [Peak(Measurement(quadrature, s, 0.01), 2**28, 2**27) for s in times]
    judged = Judgement(1e-5, copies, 2e-6)
    return peers_records.library_records(BY_NAME[name], WORK, found, judged)


def save(new, results, session="2026-12-01 09:00"):
    if new[0].value is not None:
        new = [dataclasses.replace(record, session=session) for record in new]
    publish(EXHIBIT, new, results, library)


def cells(tmp_path, name):
    text = (tmp_path / "benchmarks" / "peers.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[3:-1]] for line in text.splitlines()]
    (row,) = [row for row in rows if row and row[0] == name]
    return row


def test_the_table_has_a_line_a_library(tmp_path):
    save(entries(), tmp_path)
    save(entries("curvlinops", copies=4), tmp_path)
    save(peers_records.not_run(BY_NAME["PyHessian"], WORK, "is away"), tmp_path)
    ours = cells(tmp_path, "lla")
    assert ours[2:7] == ["0.5", "2.08 ± 0.06", "24", "256", "128"]
    assert ours[-1] == "yes"
    assert cells(tmp_path, "curvlinops")[-1] == "no: 4 copies among the largest eigenvalues"
    assert cells(tmp_path, "PyHessian")[-1] == "not run, note 1"
    assert "\n1. is away\n" in (tmp_path / "benchmarks" / "peers.md").read_text()


def test_the_fastest_other_that_is_correct_is_named(tmp_path):
    save(entries(), tmp_path)
    save(entries("PyHessian", copies=4), tmp_path)
    text = tmp_path / "benchmarks" / "peers.md"
    assert "No other library that ran with it is correct here." in text.read_text()
    save(entries("curvlinops", slower=3), tmp_path)
    save(entries("hessian-eigenthings", slower=4), tmp_path)
    assert (
        "curvlinops, takes 1.5 s where lla takes 0.5 s; in passes, 3.00 times" in text.read_text()
    )


def test_only_seconds_of_one_session_are_compared(tmp_path, monkeypatch):
    save(entries(), tmp_path)
    facts = {"code_version": "other", "torch": "2", "threads": 1, "device": "cpu"}
    monkeypatch.setattr(peers_records.machine, "environment", lambda _: facts)
    save(entries("curvlinops", slower=3), tmp_path)
    text = (tmp_path / "benchmarks" / "peers.md").read_text()
    assert "No other library that ran with it is correct here." in text
    assert "code other, torch 2, cpu, 1 threads" in text
    assert re.search(r"\| curvlinops +\| [^|]*20\d\d-\d\d-\d\d ", text)  # the day


def test_another_session_is_not_this_one(tmp_path):
    save(entries(), tmp_path, "2026-12-01 10:00")
    save(entries("curvlinops", slower=3), tmp_path, "2026-12-01 11:00")
    text = (tmp_path / "benchmarks" / "peers.md").read_text()
    assert "No other library that ran with it is correct here." in text
    assert "| 2026-12-01 10:00 | code " in re.sub(" +", " ", text)
    save(entries("hessian-eigenthings", slower=4), tmp_path, "2026-12-01 10:00")
    assert (
        "hessian-eigenthings, takes 2 s where lla takes 0.5 s"
        in (tmp_path / "benchmarks" / "peers.md").read_text()
    )


def test_what_has_no_session_is_not_compared(tmp_path):
    save(entries(), tmp_path, None)
    save(entries("curvlinops", slower=3), tmp_path, None)
    text = (tmp_path / "benchmarks" / "peers.md").read_text()
    assert "Their session is not recorded, so they are not compared." in text
    assert "| not recorded |" in re.sub(" +", " ", text)


def test_the_page_says_what_correct_means():
    text = view.page("peers").read_text()
    assert f"the {reference.TOP} largest nodes" in text
    assert text.count(f"within {TOLERANCE:g}") == 2


def test_a_reason_never_takes_the_place_of_a_measurement(tmp_path):
    save(entries(), tmp_path)
    before = read_records(tmp_path / "records" / "peers.jsonl")
    save(peers_records.not_run(BY_NAME["lla"], WORK, "is away"), tmp_path)
    assert read_records(tmp_path / "records" / "peers.jsonl") == before
    save(entries(copies=1), tmp_path)
    assert len(read_records(tmp_path / "records" / "peers.jsonl")) == len(before)


def test_errors_are_told_without_paths():
    assert peers_records.in_words(OSError("cannot open /a/b c\nmore")) == (
        "fails with OSError: cannot open ... c"
    )
    assert peers_records.in_words(NotImplementedError("it takes one batch")) == "it takes one batch"
    record = peers_records.not_run(Adapter("x", "x", None), WORK, "fails with ...")
    assert record[0].value is None
