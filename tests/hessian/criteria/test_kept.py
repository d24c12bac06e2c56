"""An interrupted measurement goes on from the spectra of its finished batches."""

import pytest
import torch
from torch import nn

import lla
from lla.hessian.criteria import criteria as module
from lla.hessian.quadrature import quadrature


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def batches(count=4):
    drawn = torch.Generator().manual_seed(1)
    return [
        (torch.randn(5 + i, 4, generator=drawn), torch.randint(3, (5 + i,), generator=drawn))
        for i in range(count)
    ]


@pytest.fixture
def stopped(monkeypatch):
    """Counts spectra, and stops before one of them."""

    def set_up(before=None):
        calls = []

        def counted(*args, **options):
            if len(calls) == before:
                raise KeyboardInterrupt
            calls.append(options["stream"])
            return quadrature(*args, **options)

        monkeypatch.setattr(module, "quadrature", counted)
        return calls

    return set_up


@pytest.mark.parametrize("scope", ["batches", "pooled"])
def test_it_goes_on_and_ends_equal(tmp_path, stopped, scope):
    options = {"probes": 2, "steps": 5, "scope": scope}
    whole = lla.criteria(network(), batches(), **options)
    first = stopped(before=2 if scope == "batches" else 0)
    with pytest.raises(KeyboardInterrupt):
        lla.criteria(network(), batches(), **options, checkpoint=tmp_path)
    again = stopped()
    found = lla.criteria(network(), batches(), **options, checkpoint=tmp_path)
    assert first + again == ([0, 1, 2, 3] if scope == "batches" else [0])
    third = stopped()
    read = lla.criteria(network(), batches(), **options, checkpoint=tmp_path)
    assert third == []
    chance = ("route", "plan")  # the fastest one that was measured
    for each in (found, read):
        first, second = ({k: v for k, v in c.to_dict().items() if k not in (*chance, "spectra")}
                         for c in (each, whole))  # fmt: skip
        assert first == second
        for one, other in zip(each.spectra, whole.spectra, strict=True):
            assert one.to_dict() | {"plan": ""} == other.to_dict() | {"plan": ""}


@pytest.mark.parametrize("change", ["weights", "data", "steps", "seed", "mode"])
def test_spectra_of_another_measurement_are_refused(tmp_path, change):
    def measure(weights=0.0, data=0.0, steps=5, seed=0, mode="eval"):
        model, pairs = network(), batches(1)
        model[0].weight.data += weights
        pairs[0][0][0, 0] += data
        return lla.criteria(model, pairs, mode, 2, steps, seed, checkpoint=tmp_path)

    measure()
    other = {"weights": 1e-3, "data": 1e-3, "steps": 6, "seed": 1, "mode": "train"}[change]
    with pytest.raises(lla.InputError, match="holds the spectrum of another measurement"):
        measure(**{change: other})


def test_what_cannot_be_kept(tmp_path):
    with pytest.raises(lla.InputError, match="with a target_stderr no batch is finished"):
        lla.criteria(network(), batches(), steps=5, target_stderr=0.1, checkpoint=tmp_path)
    with pytest.raises(lla.InputError, match=r"the checkpoint folder .*none does not exist"):
        lla.criteria(network(), batches(), steps=5, checkpoint=tmp_path / "none")
    lla.criteria(network(), batches(1), probes=1, steps=3, checkpoint=tmp_path)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(lla.ChecksumError):
        lla.criteria(network(), batches(1), probes=1, steps=3, checkpoint=tmp_path)


def mean(output, y):
    return nn.functional.cross_entropy(output, y)


def twice(output, y):  # the same value where all outputs are zero, another Hessian
    return nn.functional.cross_entropy(2 * output, y)


def silent(model):
    """The last layer gives zero, so every such network has the loss ln 3."""
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return model


@pytest.mark.parametrize("scope", ["batches", "pooled"])
@pytest.mark.parametrize("change", ["loss", "activation", "frozen", "penalty", "weights"])
def test_what_no_hash_sees_is_seen_by_a_product(tmp_path, change, scope):
    def measure(other, folder):
        model, loss, options = silent(network()), mean, {}
        theta = [p.detach().clone() for p in model.parameters()]
        if change == "loss" and other:
            loss = twice
        if change == "activation" and other:
            model[1] = nn.ReLU()
        if change == "frozen" and other:
            model[0].requires_grad_(False)
        if change == "penalty":

            def loss(model, batch):
                both = zip(model.parameters(), theta, strict=True)
                moved = sum(((p - q) ** 2).sum() for p, q in both)
                return mean(model(batch[0]), batch[1]) + (10 if other else 0.1) * moved

        if change == "weights" and other:
            options["weights"] = [5.0, 1.0]
        data = batches(2)
        return lla.criteria(model, data, probes=1, steps=5, scope=scope, loss=loss,
                            checkpoint=folder, **options)  # fmt: skip

    measure(False, tmp_path)
    assert measure(False, tmp_path).matvecs
    if change == "weights" and scope == "batches":  # each batch has its own Hessian
        assert measure(True, tmp_path).re.value == measure(True, None).re.value
        return
    with pytest.raises(lla.InputError, match="holds the spectrum of another"):
        measure(True, tmp_path)


@pytest.mark.parametrize("options", [{"steps": 1}, {"legacy": True}, {"micro_batch": 2},
                                     {"parameters": "2.*"}, {"precision": "float64"}])  # fmt: skip
def test_the_check_knows_its_own(tmp_path, options):
    options = {"probes": 2, "steps": 5} | options
    first = lla.criteria(network(), batches(), **options, checkpoint=tmp_path)
    assert lla.criteria(network(), batches(), **options, checkpoint=tmp_path).re == first.re


@pytest.mark.parametrize("wrong", ["", 5])
def test_a_folder_that_cannot_be(wrong):
    with pytest.raises(lla.InputError, match=r"checkpoint is .*: give the path of a folder"):
        lla.criteria(network(), batches(), steps=5, checkpoint=wrong)
