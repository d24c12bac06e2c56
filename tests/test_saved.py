"""Saved results: what is loaded is what was saved, or an error of the library."""

import dataclasses
import functools
import json
import os
import random

import numpy as np
import pytest
import torch

import lla
from lla.errors import LIBRARY_ERRORS
from lla.landscape.path import pca_path


def spectrum():
    return lla.Spectrum(
        np.array([[-1.0, 0.5, 2.0], [0.0, 1.0, 0.0]]), np.array([[0.25, 0.25, 0.5], [0.5, 0.5, 0]]),
        np.array([3, 2]), size=10, steps=3, seed=0, dtype="float32", legacy=False, matvecs=6,
    )  # fmt: skip


def eigenpairs():
    vectors = np.linalg.qr(np.arange(25.0).reshape(5, 5) ** 2)[0][:2]
    return lla.Eigenpairs(
        np.array([3.0, 1.0]), vectors, np.array([1e-5, 1e-4]), True, which="LA", steps=5, matvecs=7
    )


@functools.cache
def plane():
    problem = lla.Problem(torch.nn.Linear(3, 4), (torch.ones(2, 3), torch.arange(2)))
    return lla.loss_plane(problem, steps=2, scalars={"accuracy": lla.landscape.accuracy})


def path():
    return pca_path(torch.tensor([[3.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]))


MAKE = {make.__name__: make for make in (spectrum, eigenpairs, plane, path)}


def content(result):
    """All fields, in a form that can be compared; NaN equals NaN."""
    return {
        name: (str(np.asarray(value).dtype), np.asarray(value).tobytes())
        if isinstance(value, np.ndarray | torch.Tensor)
        else value
        for name, value in vars(result).items()
    }


def rewrite(file, **changes):
    """Change fields of a saved result, as someone with an editor would."""
    with np.load(file) as stored:
        arrays = dict(stored)
    header = json.loads(str(arrays.pop("header")))
    for name, value in changes.items():
        if callable(value):
            value = value(arrays[name] if name in arrays else header["plain"][name])
        arrays.pop(name, None)
        header["plain"].pop(name, None)
        if isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            header["plain"][name] = value
    np.savez(file, header=np.array(json.dumps(header)), **arrays)


def with_(index, value):
    """A function that changes one element of an array."""

    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


def as_(dtype):
    return lambda array: array.astype(dtype)


def shorter(array):
    return array[:-1]


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_saved_is_loaded(tmp_path, kind):
    result = MAKE[kind]()
    result.save(tmp_path / "result.npz")
    rewrite(tmp_path / "result.npz")
    assert content(type(result).load(tmp_path / "result.npz")) == content(result)


@pytest.mark.hard_use(
    "A saved spectrum, plane, path or set of eigenpairs with weights that sum to 7, counts of 99, "
    "NaN, shapes that do not fit, another type or a number of thousands of digits is not loaded"
)
@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("spectrum", {"weights": lambda w: 7 * w}, "do not sum to 1"),
        ("spectrum", {"weights": with_((0, 0), np.nan)}, "not finite"),
        ("spectrum", {"weights": with_((0, slice(2)), [-1.0, 1.5])}, "weights are negative"),
        ("spectrum", {"counts": with_(0, 99)}, "counts are not all from 1 to 3"),
        ("spectrum", {"counts": with_(0, 0)}, "counts are not all from 1 to 3"),
        ("spectrum", {"counts": with_(0, 2)}, "beyond the counts"),
        ("spectrum", {"counts": as_(float)}, "counts is of type float64"),
        ("spectrum", {"counts": lambda c: c[:0]}, "eigenvalues has the shape"),
        ("spectrum", {"counts": lambda c: np.asarray(c[0])}, r"counts has the shape \[\]"),
        ("spectrum", {"eigenvalues": with_((0, 1), np.inf)}, "not finite"),
        ("spectrum", {"eigenvalues": with_((0, 0), 1.0)}, "do not ascend"),
        ("spectrum", {"eigenvalues": as_("float16")}, "type float16, not float64"),
        ("spectrum", {"eigenvalues": as_("U8")}, "type str"),
        ("spectrum", {"eigenvalues": shorter}, r"shape \[1, 3\], not \[2, 3\]"),
        ("spectrum", {"eigenvalues": [[1.0]]}, "eigenvalues is no array"),
        ("spectrum", {"steps": 2**60}, "shape"),
        ("spectrum", {"steps": -1}, "shape"),
        ("spectrum", {"steps": "3"}, "steps is '3'"),
        ("spectrum", {"size": 10**400}, "size is too large"),
        ("spectrum", {"size": 0}, "size is 0"),
        ("spectrum", {"matvecs": -1}, "matvecs is -1"),
        ("spectrum", {"dtype": "bfloat16"}, "dtype is 'bfloat16'"),
        ("spectrum", {"legacy": 1}, "legacy is 1"),
        ("spectrum", {"plan": np.zeros(3)}, "plan is an array"),
        ("eigenpairs", {"values": with_(0, 0.5)}, "not the first"),
        ("eigenpairs", {"values": with_(0, np.nan)}, "not finite"),
        ("eigenpairs", {"values": shorter}, r"vectors has the shape \[2, 5\], not \[1, 5\]"),
        ("eigenpairs", {"vectors": lambda v: 2 * v}, "not of norm 1"),
        ("eigenpairs", {"vectors": with_((0, 0), np.nan)}, "not of norm 1"),
        ("eigenpairs", {"vectors": as_(complex)}, "type complex128"),
        ("eigenpairs", {"residuals": with_(0, -1.0)}, "negative"),
        ("eigenpairs", {"which": "XX"}, "which is 'XX'"),
        ("eigenpairs", {"steps": 0}, "steps is 0"),
        ("plane", {"loss": shorter}, r"evaluated has the shape|a has the shape"),
        ("plane", {"loss": as_("int64")}, "loss is of type int64"),
        ("plane", {"loss": np.zeros(())}, r"loss has the shape \[\]"),
        ("plane", {"loss": np.zeros((0, 3))}, r"loss has the shape \[0, 3\]"),
        ("plane", {"evaluated": with_((0, 0), False)}, "where nothing was evaluated"),
        ("plane", {"evaluated": as_("int8")}, "evaluated is of type int8"),
        ("plane", {"a": with_(0, np.nan)}, "coefficients are not finite"),
        ("plane", {"names": []}, "scalars has the shape"),
        ("plane", {"names": "accuracy"}, "scalars has the shape|names is"),
        ("plane", {"names": [3]}, r"names is \[3\]"),
        ("plane", {"center": float("nan")}, "center is nan"),
        ("plane", {"classes": 0}, "classes is 0"),
        ("plane", {"norms": [-1.0]}, "norm is negative"),
        ("path", {"directions": lambda d: 2 * d}, "not orthonormal"),
        ("path", {"directions": lambda d: d[:1]}, r"shape \[1, 3\], not \[2, 3\]"),
        ("path", {"directions": with_((0, 0), np.nan)}, "not orthonormal"),
        ("path", {"coordinates": with_((-1, 0), 1.0)}, "do not end at 0"),
        ("path", {"coordinates": with_((0, 0), np.inf)}, "not finite"),
        ("path", {"explained": lambda e: 7 * e}, "explained is"),
        ("path", {"explained": with_(0, np.nan)}, r"explained is \[nan"),
        ("path", {"weights_hash": 3}, "weights_hash is 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_the_name_of_the_file(tmp_path, kind, changes, message):
    file = tmp_path / "result.npz"
    result = MAKE[kind]()
    result.save(file)
    rewrite(file, **changes)
    with pytest.raises(lla.ChecksumError, match=rf"result\.npz holds no .*({message})") as refusal:
        type(result).load(file)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("header", ["[" * 10**5, '{"type": 1' + "0" * 5000 + "}", "{}", "3"])
def test_a_header_that_is_none(tmp_path, header):
    np.savez(tmp_path / "result.npz", header=np.array(header))
    with pytest.raises(lla.InputError, match=r"result\.npz holds no Spectrum that this library"):
        lla.Spectrum.load(tmp_path / "result.npz")


def test_objects_are_not_unpickled(tmp_path):
    file = tmp_path / "result.npz"
    spectrum().save(file)
    rewrite(file, eigenvalues=np.array([[{}]], dtype=object))
    with pytest.raises(lla.ChecksumError, match=r"result\.npz cannot be read"):
        lla.Spectrum.load(file)


def damaged(whole, generator):
    """Bytes with one to three flipped bits, or an end that is missing."""
    if generator.random() < 0.25:
        return whole[: generator.randrange(len(whole))]
    found = bytearray(whole)
    for _ in range(generator.randint(1, 3)):
        found[generator.randrange(len(found))] ^= 1 << generator.randrange(8)
    return bytes(found)


@pytest.mark.hard_use(
    "Saved results with flipped bits or a missing end load as they were saved or not at all"
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning", "ignore::SyntaxWarning")
@pytest.mark.parametrize("kind", MAKE)
def test_damaged_files_give_the_same_result_or_an_error(tmp_path, kind, record_property):
    file, generator = tmp_path / "result.npz", random.Random(0)
    result = MAKE[kind]()
    result.save(file)
    whole, expected = file.read_bytes(), content(result)
    refused = []
    for _ in range(DAMAGES):
        file.write_bytes(damaged(whole, generator))
        try:
            found = type(result).load(file)
        except LIBRARY_ERRORS as error:
            refused.append(str(error))
        else:
            assert content(found) == expected
    record_property(
        "measured", f"{DAMAGES} damages, {len(refused)} refused, the others without effect"
    )
    assert len(refused) > DAMAGES // 2
    assert all("result.npz" in message for message in refused)


DAMAGES = 20_000 if os.environ.get("LLA_LONG") else 200


def test_the_fields_that_a_check_does_not_know_do_not_matter(tmp_path):
    old = dataclasses.replace(plane(), weights_hash=None, direction_hashes=())
    old.save(tmp_path / "old.npz")  # as an older version wrote it
    assert lla.Plane.load(tmp_path / "old.npz").direction_hashes == ()
