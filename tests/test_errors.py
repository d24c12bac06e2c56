import pickle

import pytest

from lla import data, models
from lla.errors import MissingDataError


def test_what_is_missing_is_said_with_and_without_folders(tmp_path):
    with pytest.raises(MissingDataError) as caught:
        data.load("mnist", "train", tmp_path)
    error = caught.value
    assert str(error).startswith(f"{error.reason}; looked in {tmp_path}")
    assert "put MNIST/raw/train-images-idx3-ubyte" in error.reason
    assert str(tmp_path) not in error.reason
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason) == (str(error), error.reason)
    assert isinstance(error, FileNotFoundError)


def test_a_reason_alone_is_the_message():
    assert str(MissingDataError("no split")) == MissingDataError("no split").reason == "no split"


def test_advice_on_weights_names_no_folder_of_this_machine(tmp_path):
    found = models.find_pretrained("lenet", tmp_path)
    assert found.note == f"{found.advice}; looked in {tmp_path / 'weights'}"
