import json

import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.analysis import Analysis
from lla.analysis.page import write_page


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)
    )


def batches(count=3):
    torch.manual_seed(1)
    return [(torch.randn(20, 4), torch.arange(20) % 3) for _ in range(count)]


@pytest.fixture(scope="module")
def found():
    return lla.analyze(network(), batches(), steps=12, points=5, seed=3)


def test_numbers_are_those_of_the_single_calls(found):
    model, data = network(), batches()
    problem = lla.Problem(model, data, seed=3)
    crit = lla.criteria(model, data, probes=1, steps=12, seed=3)
    assert found.criteria.kh1 == crit.kh1
    assert found.other.re == lla.criteria(model, data, "train", probes=1, steps=12, seed=3).re
    H = lla.HessianOperator(problem)
    values = [*lla.top_eigenpairs(H, 2).values, *lla.top_eigenpairs(H, 1, "SA").values]
    np.testing.assert_allclose(np.sort(found.extremes.values), np.sort(values), rtol=1e-4)
    assert found.gradient == pytest.approx(float(problem.gradient().norm()))
    plane = lla.loss_plane(problem, steps=4, seed=3)
    np.testing.assert_array_equal(found.plane.loss, plane.loss)
    exact = lla.flatness(model, data)
    assert found.flatness["4"].kappa.value == pytest.approx(exact["4"].kappa.value)


def test_nothing_of_the_model_changes():
    model = network().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    data, state = batches(1), torch.get_rng_state()
    lla.analyze(model, data, steps=3, points=3)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_it_can_be_saved_and_printed(found, tmp_path):
    found.save(tmp_path / "a.npz")
    again = Analysis.load(tmp_path / "a.npz")
    assert repr(again) == repr(found)
    assert again.findings == found.findings
    assert json.loads(json.dumps(found.to_dict()))["criteria"]["kh1"]["n"] == 3


def test_the_page_has_findings_tables_and_pictures_and_loads_nothing(found, tmp_path):
    page = tmp_path / "page.html"
    write_page(found, page)
    text = page.read_text()
    for finding in found.findings:
        assert f"{finding.topic}.</b>" in text
    for heading in ("Criteria", "Layers", "Loss plane"):
        assert heading in text
    assert text.count("data:image/png;base64,") == 2
    assert "eval mode" in text
    assert "train mode" in text
    assert 'src="http' not in text
    assert 'href="http' not in text
    assert "lla.top_eigenpairs" in text
    write_page(found, page, "lenet --data digits")
    assert "lla eigenpairs lenet --data digits --which SA --k 5" in page.read_text()


def test_a_name_is_shown_as_text(tmp_path):
    model = nn.Sequential()
    model.add_module("<b>x", nn.Linear(2, 2))
    lla.analyze(
        model, (torch.randn(8, 2), torch.arange(8) % 2), tmp_path / "page.html", steps=4, points=3
    )
    assert "<b>x" not in (tmp_path / "page.html").read_text()


def test_a_network_without_a_closed_form_has_no_flatness(tmp_path):
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    data = (torch.randn(16, 2), torch.randn(16, 1))
    found = lla.analyze(model, data, tmp_path / "p.html", loss=nn.MSELoss(), steps=5, points=3)
    assert found.flatness is None
    assert "is not exact for" in found.why_no_flatness
    assert "There is no relative flatness" in (tmp_path / "p.html").read_text()


def test_flatness_of_many_classes_is_left_to_the_user():
    data = (torch.randn(8, 2), torch.arange(8))
    found = lla.analyze(nn.Sequential(nn.Linear(2, 101)), data, steps=3, points=3)
    assert found.flatness is None
    assert "a backward pass for each of 101 classes" in found.why_no_flatness


def test_a_mode_that_cannot_be_measured_is_said():
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    found = lla.analyze(model, (torch.randn(1, 2), torch.tensor([1])), steps=5, points=3)
    assert found.other is None
    (finding,) = [f for f in found.findings if f.topic == "Mode"]
    assert "The other mode was not measured" in finding.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probes": 1}, "probes is 1 for a single batch"),
        ({"points": 4}, "points is 4: give an odd number"),
        ({"points": 1}, "points is 1"),
        ({"steps": 0}, "steps is 0"),
        ({"mode": "test"}, "mode is 'test'"),
    ],
)
def test_wrong_arguments_are_refused(options, words):
    with pytest.raises(lla.InputError, match=words):
        lla.analyze(network(), batches(1), **options)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("lla.analysis.analyzing.criteria", lambda *a, **k: pytest.fail("worked"))
    (tmp_path / "file").write_text("")
    with pytest.raises(lla.WriteError, match=r"cannot be written|is no folder"):
        lla.analyze(network(), batches(1), tmp_path / "file" / "page.html")
