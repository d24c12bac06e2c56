import dataclasses
import os

import pytest

from lla import data
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.inputs import lenet


@pytest.mark.hard_use(
    "A spectrum of LeNet with one probe, one batch, other steps or other batch sizes is not called "
    "the paper's"
)
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"probes": 1}, "reduced"), ({"probes": 9}, "reduced"), ({"probes": 11}, "paper"),
        ({"batches": 1}, "reduced"), ({"batches": 3}, "reduced"), ({"batches": 5}, "paper"),
        ({"steps": 99}, "reduced"), ({"steps": 101}, "reduced"),
        ({"batch_size": 2047}, "reduced"), ({"batch_size": 2049}, "reduced"),
    ],
)  # fmt: skip
def test_less_than_the_papers_settings_is_reduced(digits, changes, expected):
    mnist = dataclasses.replace(digits, name="mnist", fidelity="paper")
    profile = adjusted(PROFILES["paper"], **changes)
    assert profile.is_the_papers() == (expected == "paper")
    assert lenet.fidelity(profile, mnist, "random") == expected
    long = adjusted(profile, epochs=1000)
    assert lenet.fidelity(long, mnist, "trained") == expected


def test_fidelity(digits):
    mnist = dataclasses.replace(digits, name="mnist", fidelity="paper")
    part = dataclasses.replace(mnist, fidelity="reduced")
    paper, quick = PROFILES["paper"], PROFILES["quick"]
    assert lenet.fidelity(paper, mnist, "random") == "paper"
    assert lenet.fidelity(paper, mnist, "trained") == "reduced"
    assert lenet.fidelity(adjusted(paper, epochs=1000), mnist, "trained") == "paper"
    assert lenet.fidelity(adjusted(paper, epochs=999), mnist, "trained") == "reduced"
    until = dataclasses.replace(paper, epochs=1000)
    assert lenet.fidelity(until, mnist, "trained") == "reduced", "it ends at the target"
    assert lenet.fidelity(adjusted(paper, epochs=1000), mnist, "during") == "reduced"
    assert lenet.fidelity(quick, mnist, "random") == "reduced"
    assert lenet.fidelity(paper, part, "random") == "reduced"
    assert lenet.fidelity(paper, digits, "random") == "substitute"


def test_a_small_stand_in_gets_smaller_batches(digits):
    enough = adjusted(PROFILES["quick"], batches=2, batch_size=512)
    assert lenet.fitted(enough, digits) == enough
    profile = lenet.fitted(PROFILES["paper"], digits)
    assert profile.batch_size * profile.batches <= len(digits) < 4 * 2048


def test_mnist_is_taken_where_it_is_and_digits_where_not(tmp_path, monkeypatch):
    monkeypatch.setattr(data.files, "cache_folder", lambda: tmp_path)
    settings = Settings(PROFILES["quick"], tmp_path, tmp_path, data_root=tmp_path)
    assert lenet.images(settings).name == "digits"
    if not os.environ.get("LLA_DATA"):
        pytest.skip("LLA_DATA names no folder of data sets")
    assert lenet.images(dataclasses.replace(settings, data_root=None)).name == "mnist"
