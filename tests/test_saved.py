"""Saved results: what is loaded is what was saved, or an error of the library."""

import base64
import dataclasses
import functools
import html
import json
import os
import random
import warnings

import numpy as np
import pytest
import torch

import lla
from lla.errors import LIBRARY_ERRORS
from lla.landscape.path import pca_path
from lla.training import TrainingResult


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


@functools.cache
def small():
    """A network with two layers, and a batch."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    return model, (torch.rand(6, 3), torch.arange(6) % 2)


@functools.cache
def flatness():
    return lla.flatness(*small())


@functools.cache
def layerwise():
    return lla.layerwise(*small(), k=2)


def overlaps():
    return layerwise().overlap(layerwise())


def layer_flatness():
    return flatness()["0"]


def layer_curvature():
    return layerwise()["0"]


@functools.cache
def criteria():
    return lla.criteria(*small(), probes=2, steps=5)


@functools.cache
def adaptive():
    """Criteria with a target: some are not measured, and an interval is infinite."""
    model, (x, y) = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lla.criteria(
            model, [(x[:3], y[:3]), (x[3:], y[3:])], probes=2, steps=5, target_stderr=1e-9
        )


def ratios():
    return lla.spectrum_criteria(spectrum())


def explosion():
    return plane().explosion()


def asymmetry():
    return plane().asymmetry(1.0)


def estimate():
    return lla.Estimate(0.25, None, 1, 10)


def training():
    return TrainingResult(2, (1.0, 0.5), (0.25, 0.5), "0" * 64, 1.5, True)


KINDS = (
    spectrum, eigenpairs, plane, path, flatness, layerwise, overlaps, layer_flatness,
    layer_curvature, criteria, adaptive, ratios, explosion, asymmetry, estimate, training,
)  # fmt: skip
MAKE = {make.__name__: make for make in KINDS}


def content(result):
    """All fields, in a form that can be compared; NaN equals NaN."""
    return {name: comparable(value) for name, value in vars(result).items()}


def comparable(value):
    if isinstance(value, np.ndarray | torch.Tensor):
        return str(np.asarray(value).dtype), np.asarray(value).tobytes()
    if dataclasses.is_dataclass(value):
        return type(value), content(value)
    if isinstance(value, tuple | list):
        return type(value), [comparable(each) for each in value]
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in value.items()}
    return repr(value) if isinstance(value, float) else value


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
        ("flatness", {"values": shorter}, r"values has the shape \[1, 4\], not \[2, 4\]"),
        ("flatness", {"counts": as_(float)}, "counts is of type float64"),
        ("flatness", {"methods": ["closed form"]}, "2 layers, 1 methods"),
        ("layerwise", {"eigenvectors": shorter}, r"eigenvectors has the shape \[39\], not \[40\]"),
        ("layerwise", {"sizes": with_((0, 0), 5)}, "eigenvectors has the shape"),
        ("layerwise", {"sizes": with_((0, 0), -4)}, "not positive"),
        ("layerwise", {"sizes": shorter}, r"sizes has the shape \[1, 2\]"),
        ("layerwise", {"k": 3}, "eigenvalues has the shape"),
        ("layerwise", {"M": as_("float32")}, "M is of type float32"),
        ("layerwise", {"whys": []}, "2 layers and 0 reasons"),
        ("overlaps", {"curves": shorter}, r"curves has the shape \[1, 2\], not \[2, 2\]"),
        ("overlaps", {"names": ["0"]}, r"shape \[2, 2\], not \[1, 2\]"),
        ("criteria", {"spectra": []}, "it has no spectrum"),
        ("criteria", {"spectra": 3}, "spectra is 3"),
        ("criteria", {"spectra.0.weights": lambda w: 7 * w}, "do not sum to 1"),
        ("criteria", {"re": None}, "re is None"),
        ("criteria", {"re": lambda e: e | {"value": float("nan")}}, "value is nan from 2 samples"),
        ("criteria", {"kh1": lambda e: e | {"n": "2"}}, "n is '2'"),
        ("criteria", {"kh1": lambda e: e | {"stderr": -1.0}}, "stderr is -1.0"),
        ("criteria", {"loss": float("nan")}, "loss is nan"),
        ("criteria", {"probes": 0}, "probes is 0"),
        ("adaptive", {"adaptive": [1]}, r"adaptive is \[1\]"),
        ("adaptive", {"kh05": lambda e: e | {"value": float("inf"), "n": 3}}, "value is inf from"),
        ("layer_flatness", {"table": None}, "by closed form and has no table|by jacobian blocks"),
        ("layer_flatness", {"table": shorter}, r"table has the shape \[3, 4\], not \[4, 4\]"),
        ("layer_flatness", {"filters": 0}, "filters is 0"),
        ("layer_curvature", {"M": shorter}, r"M has the shape \[3, 4\], not \[4, 4\]"),
        ("ratios", {"kh1": with_(0, np.nan)}, "a ratio is not finite"),
        ("ratios", {"kh1": shorter}, r"kh1 has the shape \[1\], not \[2\]"),
        ("estimate", {"value": float("nan")}, "value is nan from 1 samples"),
        ("estimate", {"n": -1}, "n is -1"),
        ("training", {"loss": [1.0]}, "2 epochs, 1 losses and 2 accuracies"),
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


def texts(value, place=""):
    """Every text in nested containers that stands for a number, with its place."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from texts(each, f"{place}/{key}")
    elif value in ("NaN", "Infinity", "-Infinity"):
        yield place


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("kind", MAKE)
def test_a_dict_is_json_without_nan(kind, vectors):
    result = MAKE[kind]()
    found = result.to_dict(vectors)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["type"] == type(result).__name__
    for name in set(vars(result)) - set(type(result).LONG):
        if name not in found:  # results of layers have their numbers under `layers`
            assert kind in ("flatness", "layerwise")
    assert all((name in found) == vectors for name in type(result).LONG)


def test_numbers_that_json_has_not_are_marked():
    array = np.array([0.5, np.nan, np.inf, -np.inf])
    found = dataclasses.replace(plane(), loss=array, evaluated=np.ones(4, bool)).to_dict()
    assert found["loss"] == [0.5, "NaN", "Infinity", "-Infinity"]
    np.testing.assert_array_equal(np.array(found["loss"], dtype=float), array)
    assert "/kh05/value" in set(texts(adaptive().to_dict()))
    assert set(texts(criteria().to_dict())) == set()


def test_criteria_have_value_stderr_and_n_in_their_dict():
    found = criteria().to_dict()
    for name in ("re", "kh1", "kh05"):
        own = getattr(criteria(), name)
        assert found[name]["value"] == own.value
        assert found[name]["stderr"] == own.stderr
        assert found[name]["n"] == own.n == 2
    assert adaptive().to_dict()["adaptive"]["stopped"] == adaptive().adaptive.stopped


def test_layers_have_their_numbers_by_name():
    kappa = flatness().to_dict()["layers"]["2"]["kappa"]
    assert kappa["value"] == flatness()["2"].kappa.value
    layer = layerwise().to_dict()["layers"]["0"]
    assert layer["eigenvalues"] == layerwise()["0"].eigenvalues.tolist()
    assert "eigenvectors" not in layer
    shape = np.shape(layerwise().to_dict(vectors=True)["layers"]["0"]["eigenvectors"])
    assert shape == (2, 4, 3)


ROWS = {  # of the frames, and a column with what it must hold
    "spectrum": (5, "eigenvalue", lambda r: r.nodes),
    "eigenpairs": (2, "residual", lambda r: r.residuals),
    "plane": (9, "loss", lambda r: r.loss.ravel()),
    "path": (3, "second", lambda r: r.coordinates[:, 1]),
    "flatness": (2, "kappa", lambda r: r.values[:, 2]),
    "layerwise": (2, "eigenvalue", lambda r: [each.eigenvalues[0] for each in r]),
    "overlaps": (2, "overlap", lambda r: r.curves[:, -1]),
    "layer_flatness": (4, "value", lambda r: [r.trace, r.trace_bias, r.kappa, r.kappa_diag]),
    "layer_curvature": (2, "kronecker_overlap", lambda r: r.kronecker_overlap),
    "criteria": (4, "stderr", lambda r: [e.stderr for e in (r.re, r.kh1, r.kh05)] + [
        r.negative_share.stderr]),
    "adaptive": (4, "n", lambda r: [r.re.n, r.kh1.n, r.kh05.n, r.negative_share.n]),
    "ratios": (2, "kh05", lambda r: r.kh05),
    "training": (2, "accuracy", lambda r: r.accuracy),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_a_frame_has_the_numbers(kind):
    result, (rows, column, expected) = MAKE[kind](), ROWS[kind]
    frame = result.to_frame()
    assert len(frame) == rows
    found = frame[column].to_numpy(dtype=float)
    np.testing.assert_array_equal(found, np.asarray(expected(result), dtype=float))


def test_a_frame_of_a_plane_has_the_place_of_each_value():
    frame = plane().to_frame()
    for i, a in enumerate(plane().a):
        for j, b in enumerate(plane().b):
            (row,) = frame[(frame.a == a) & (frame.b == b)].to_dict("records")
            assert row["loss"] == plane().loss[i, j]
            assert row["accuracy"] == plane().scalar("accuracy")[i, j]
    weights = spectrum().to_frame().groupby("probe")["weight"].sum()
    np.testing.assert_allclose(weights, 1)


@pytest.mark.parametrize("kind", MAKE)
def test_texts_are_a_few_lines_and_pages_have_the_picture(kind):
    result = MAKE[kind]()
    text = repr(result)
    assert 1 <= len(text.splitlines()) <= 9
    assert len(text) < 1000
    page = result._repr_html_()
    assert html.escape(text) in page
    assert ("<img" in page) == hasattr(result, "plot")
    if hasattr(result, "plot"):
        picture = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
        assert picture.startswith(b"\x89PNG")


def test_what_cannot_be_drawn_says_why():
    part = dataclasses.replace(plane(), evaluated=np.zeros((3, 3), bool))
    page = part._repr_html_()
    assert "9 of 9 points are missing" in page
    assert "<img" not in page
