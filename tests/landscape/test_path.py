import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import nn

import lla
from lla.landscape import Path, path, pca_path
from lla.storage import save_result


def walk(T=12, P=300, dtype=torch.float64, seed=0):
    """A way that slows down on its way to weights far from 0."""
    draw = np.random.default_rng(seed)
    steps = draw.normal(size=(T, P)) * np.linspace(2, 0.2, T)[:, None] + draw.normal(size=P) * 0.3
    return torch.as_tensor(5.0 + steps.cumsum(0), dtype=dtype)


def aligned(found, expected):
    """The expected rows [K, n] with the signs of those found."""
    return expected * np.sign((found * expected).sum(1, keepdims=True))


@pytest.mark.parametrize(("T", "P"), [(12, 300), (3, 50), (60, 7), (10, 10), (4, 2)])
def test_is_the_singular_value_decomposition_and_scikit_learns_pca(T, P):
    thetas = walk(T, P)
    found = pca_path(thetas)
    moved = (thetas - thetas[-1]).numpy()
    _, values, rows = np.linalg.svd(moved - moved.mean(0), full_matrices=False)
    directions = found.directions.numpy()
    expected = aligned(directions, rows[:2])
    np.testing.assert_allclose(directions, expected, atol=1e-9)
    np.testing.assert_allclose(found.explained, values[:2] ** 2 / (values**2).sum(), rtol=1e-9)
    np.testing.assert_allclose(found.coordinates, moved @ expected.T, atol=1e-8)
    pca = PCA(n_components=2).fit(thetas.numpy())
    np.testing.assert_allclose(directions, aligned(directions, pca.components_), atol=1e-9)
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_, rtol=1e-9)
    projected = pca.transform(thetas.numpy())
    signs = np.sign((directions * pca.components_).sum(1))
    expected = signs * (projected - projected[-1])
    np.testing.assert_allclose(found.coordinates, expected, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_are_orthonormal_and_the_last_weights_at_the_origin(dtype):
    thetas = walk(T=30, P=5000, dtype=dtype)
    found = pca_path(thetas)
    assert found.directions.dtype == dtype
    assert found.directions.shape == (2, 5000)
    gram = found.directions.double() @ found.directions.double().T
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(gram, torch.eye(2).double(), rtol=0, atol=tolerance)
    assert found.coordinates.dtype == found.explained.dtype == np.float64
    assert np.abs(found.coordinates[-1]).max() == 0
    assert (found.coordinates[0] >= 0).all()
    assert found.explained[0] >= found.explained[1] > 0
    assert found.explained.sum() < 1


def test_slabs_change_nothing(monkeypatch):
    thetas = walk()
    whole = pca_path(thetas)
    monkeypatch.setattr(path, "_ELEMENTS", 12 * 7)
    parts = pca_path(thetas)
    torch.testing.assert_close(parts.directions, whole.directions, rtol=0, atol=1e-12)
    np.testing.assert_allclose(parts.coordinates, whole.coordinates, atol=1e-10)


def test_a_second_axis_that_is_almost_nothing_is_still_orthonormal():
    P = 200
    draw = torch.as_tensor(np.random.default_rng(1).normal(size=(2, P)))
    t = torch.linspace(1, 0, 20, dtype=torch.float64)[:, None]
    found = pca_path(1.0 + 1e3 * t * draw[0] + 1e-2 * torch.sin(6 * t) * draw[1])
    gram = found.directions @ found.directions.T
    torch.testing.assert_close(gram, torch.eye(2).double(), rtol=0, atol=1e-6)
    assert found.explained[1] < 1e-9


def test_vectors_and_state_dicts_are_the_same(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, (x, y) = case.make(), case.batch(8)
    space = lla.ParameterSpace.of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    states, vectors = [], []
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        vectors.append(space.read(model))
    expected = pca_path(torch.stack(vectors))
    for found in (pca_path(vectors), pca_path(tuple(vectors), space), pca_path(states, space)):
        assert torch.equal(found.directions, expected.directions)
        assert np.array_equal(found.coordinates, expected.coordinates)
    assert expected.directions.requires_grad is False


def test_on_the_plane_of_the_path_its_weights_have_their_losses():
    # three weights lie in a plane, so nothing of them is lost
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
                  for _ in range(3)]  # fmt: skip
        batch = torch.randn(10, 3).double(), torch.arange(10) % 3
    space = lla.ParameterSpace.of(models[0])
    found = pca_path([space.read(model) for model in models])
    assert found.explained.sum() == pytest.approx(1.0, abs=1e-12)
    problem = lla.Problem(models[-1], batch)
    for point, model in zip(found.coordinates, models, strict=True):
        plane = lla.loss_plane(
            problem, axes=found.directions, normalization=None,
            coordinates=([0.0, point[0]], [0.0, point[1]]),
        )  # fmt: skip
        assert plane.loss[1, 1] == pytest.approx(lla.Problem(model, batch).loss().item(), rel=1e-9)
        assert plane.loss[0, 0] == problem.loss()
    whole = lla.loss_plane(
        problem, axes=found.directions, coordinates=found.grid(5), normalization=None
    )
    assert whole.loss.shape == (5, 5)
    assert whole.axes == "given"


def test_the_grid_encloses_the_path():
    coordinates = np.array([[4.0, 1.0], [2.0, -3.0], [0.0, 0.0]])
    way = Path(torch.eye(2), coordinates, np.array([0.6, 0.4]))
    a, b = way.grid()
    assert a.shape == b.shape == (41,)
    assert (a[0], a[-1]) == pytest.approx((-0.8, 4.8))
    assert (b[0], b[-1]) == pytest.approx((-3.8, 1.8))
    np.testing.assert_allclose(np.diff(a), 5.6 / 40)
    a, b = way.grid(points=2, margin=0.0)
    assert (a.tolist(), b.tolist()) == ([0.0, 4.0], [-3.0, 1.0])
    assert a.flags.c_contiguous


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 1}, "points is 1: give a whole number from 2 to 10001"),
        ({"margin": -0.1}, "the margin is -0.1: give 0 or a positive number"),
        ({"margin": float("nan")}, "the margin is nan"),
        ({"margin": float("inf")}, "the margin is inf"),
    ],
)
def test_bad_grids(options, message):
    with pytest.raises(lla.InputError, match=message):
        pca_path(walk()).grid(**options)


SPACE = lla.ParameterSpace.of(nn.Linear(2, 2))
LINE = torch.linspace(0, 1, 5)[:, None] * torch.ones(5, 6)


@pytest.mark.parametrize(
    ("thetas", "space", "message"),
    [
        (walk(2), None, "there are 2 weights: a path has two axes from 3 on"),
        ([], None, "there are 0 weights"),
        (torch.ones(4, 9), None, "all weights are the same, so the path has no axes"),
        (LINE, None, "the weights lie on a straight line, so they have one axis only"),
        (
            torch.rand(100) * 5 + torch.linspace(0, 1, 20)[:, None] * torch.rand(100),
            None,
            "straight",
        ),
        (torch.rand(5, 1), None, "lie on a straight line"),
        ([torch.ones(5), torch.zeros(5), torch.ones(4)], None, "weights 2 have 4 elements, not 5"),
        (torch.rand(4, 5), SPACE, "weights 0 have 5 elements, not 6: give those of one model"),
        ([nn.Linear(2, 2).state_dict()] * 3, None, "all weights are the same, so the path has no"),
        ([nn.Linear(2, n).state_dict() for n in (2, 3, 2)], None, "weights 1: the tensor for weig"),
        ([{"weight": torch.ones(2, dtype=torch.long)}] * 3, None, "has no floating-point tensor"),
        ([nn.Linear(2, 3).state_dict()] * 3, SPACE, r"tensor for weight has shape \(3, 2\), not"),
        ([{"weight": torch.ones(2, 2)}] * 3, SPACE, "no tensor for the parameters bias"),
        (
            torch.rand(3, 4, 5),
            None,
            r"weights 0 are \(4, 5\): give flat vectors, models, state dicts",
        ),
        ([np.ones(3)] * 3, None, "weights 0 are ndarray: give flat vectors"),
        (torch.ones(3, 4, dtype=torch.long), None, r"weights 0 are \(4,\)"),
        (torch.tensor([[1.0, 2.0], [torch.nan, 0.0], [1.0, 1.0]]), None, "hold NaN or infinite"),
        (torch.tensor([[1.0, 2.0], [3.0, 0.0], [1.0, torch.inf]]), None, "hold NaN or infinite"),
    ],
)
def test_bad_paths(thetas, space, message):
    with pytest.raises(lla.InputError, match=message):
        pca_path(thetas, space)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    path = pca_path(torch.randn(5, 30, generator=torch.Generator().manual_seed(0)))
    path.save(tmp_path / "path.npz")
    other = Path.load(tmp_path / "path.npz")
    assert torch.equal(other.directions, path.directions)
    np.testing.assert_array_equal(other.coordinates, path.coordinates)
    np.testing.assert_array_equal(other.explained, path.explained)


def test_it_is_drawn_alone_and_over_its_plane():
    model = torch.nn.Linear(2, 3)
    problem = lla.Problem(model, (torch.ones(4, 2), torch.zeros(4, dtype=torch.long)))
    last = problem.theta()
    way = torch.randn(4, len(last), generator=torch.Generator().manual_seed(0))
    path = pca_path([*(last + way), last])
    plane = lla.loss_plane(problem, path.directions, normalization=None, coordinates=path.grid(5))
    for figure in (path.plot(), path.plot(plane)):
        ax = figure.axes[0]
        (line,) = [line for line in ax.get_lines() if line.get_label() == "path"]
        np.testing.assert_allclose(np.stack(line.get_data()).T, path.coordinates)
        assert f"{path.explained[0]:.1%} of the variance" in ax.get_xlabel()


def path_and_plane(dtype=torch.float32, grid=5):
    """A path of a small model (issue 14, item 9), and the problem at its last weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Linear(2, 3)
    thetas = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    nn.utils.vector_to_parameters(thetas[-1].clone(), model.parameters())
    problem = lla.Problem(model.to(dtype), (torch.ones(4, 2, dtype=dtype), torch.arange(4) % 3))
    found = pca_path(thetas)
    return found, problem, {"coordinates": found.grid(grid), "normalization": None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_plane_of_the_path_is_drawn_below_in_either_type(dtype, tmp_path):
    found, problem, options = path_and_plane(dtype)
    plane = lla.loss_plane(problem, found.directions, **options)
    found.save(tmp_path / "path.npz")
    plane.save(tmp_path / "plane.npz")
    Path.load(tmp_path / "path.npz").plot(lla.Plane.load(tmp_path / "plane.npz"))
    double = pca_path(walk(5, 9))
    problem = problem.at(walk(5, 9)[-1].to(dtype))
    options["coordinates"] = double.grid(3)
    double.plot(lla.loss_plane(problem, double.directions, **options))


def test_a_plane_that_is_centred_elsewhere_is_refused():
    found, problem, options = path_and_plane()
    elsewhere = problem.at(problem.theta() * 1.001)
    plane = lla.loss_plane(elsewhere, found.directions, **options)
    with pytest.raises(lla.InputError, match="centred at other weights than the last of the path"):
        found.plot(plane)


@pytest.mark.parametrize("kind", ["swapped", "negative", "longer", "filter", "frozen", "line"])
def test_a_plane_of_other_directions_is_refused(kind):
    found, problem, options = path_and_plane()
    rows = found.directions
    rows = {"swapped": rows.flip(0), "negative": -rows, "longer": 2 * rows, "line": rows[:1]}.get(
        kind, rows
    )
    options |= {"filter": {"normalization": "filter"}, "frozen": {"freeze": "bias"}}.get(kind, {})
    if kind == "line":
        options["coordinates"] = options["coordinates"][:1]
    plane = lla.loss_plane(problem, rows, **options)
    with pytest.raises(lla.InputError, match="the plane has other directions than the path: comp"):
        found.plot(plane)


def older(result, names, file):
    """A result saved as an older version did, without some fields."""
    plain = dataclasses.make_dataclass(
        type(result).__name__, [f.name for f in dataclasses.fields(result) if f.name not in names]
    )
    values = {f.name: getattr(result, f.name) for f in dataclasses.fields(plain)}
    save_result(plain(**values), file)


def test_files_of_an_older_version_are_read_and_not_drawn_over_each_other(tmp_path):
    found, problem, options = path_and_plane()
    plane = lla.loss_plane(problem, found.directions, **options)
    older(plane, {"weights_hash", "direction_hashes"}, tmp_path / "plane.npz")
    arrays = {**vars(found), "directions": found.directions.numpy()}
    older(path._Arrays(**arrays), {"weights_hash"}, tmp_path / "path.npz")
    old_plane, old_path = (
        lla.Plane.load(tmp_path / "plane.npz"),
        Path.load(tmp_path / "path.npz"),
    )
    assert np.array_equal(old_plane.loss, plane.loss)
    assert np.array_equal(old_path.coordinates, found.coordinates)
    old_plane.plot()
    old_path.plot()
    with pytest.raises(
        lla.InputError, match=r"the plane does not say at which weights.*loss_plane"
    ):
        found.plot(old_plane)
    with pytest.raises(
        lla.InputError, match=r"the path does not say at which weights.*with pca_path"
    ):
        old_path.plot(plane)
