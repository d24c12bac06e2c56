"""Calls of the public functions and of the command line with generated arguments.

Whatever the arguments: a call gives a finite result or one of the library's own errors, in time,
and leaves the random states and the model as they were. CI makes a small, fixed number of calls;
with LLA_LONG set there are 10,000.
"""

import contextlib
import dataclasses
import math
import os
import random
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

import lla
from lla import data, landscape, models
from lla.cli import app
from lla.random_states import RandomStates

OWN = (
    lla.InputError,
    lla.NonFiniteError,
    lla.MissingDataError,
    lla.ChecksumError,
    lla.InsufficientMemoryError,
)
LONG = bool(os.environ.get("LLA_LONG"))
CALLS = {"library": 8500 if LONG else 100, "command line": 1500 if LONG else 12}


def budget(kind):
    """Derandomized in CI, so that a commit is judged by itself; random in the long run."""
    return settings(
        max_examples=CALLS[kind],
        deadline=300_000 if LONG else None,  # milliseconds a call, on a busy machine
        derandomize=not LONG,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


# Arguments: mostly ones that work, with ones of the right kind that do not among them. A number
# where an array belongs, say, gets Python's own TypeError, and is not tried.
WRONG = ["2", 2.5, math.nan, math.inf, -math.inf]
HUGE = [10**12, 2**64, -(2**64), 10**400]


def whole(*good):
    return st.one_of(
        *[st.sampled_from(good)] * 6, st.integers(-3, 4), st.sampled_from([*WRONG, *HUGE, True])
    )


def number(*good):
    return st.one_of(
        *[st.sampled_from(good)] * 5,
        st.floats(),
        st.sampled_from([0, -1, 1e300, 1e-300, 5e-324, torch.tensor(0.5), math.nan, math.inf]),
    )


def choice(*good):
    return st.one_of(
        *[st.sampled_from(good)] * 8, st.sampled_from(["", "best", "LA ", good[0].upper()])
    )


SEEDS = whole(0, 1, 2**64 - 1, 2**63, np.int64(3))
MEMORY = st.one_of(
    *[st.just(None)] * 6,
    st.sampled_from([10**9, 0, -1, 5, math.nan]),
    st.builds(
        lla.Memory,
        st.sampled_from([None, 10**9, -1, 2.5]),
        st.sampled_from([None, torch.bfloat16, torch.float32, torch.int32]),
        st.sampled_from([None, "cpu", "cuda", "foo", "meta"]),
    ),
)
LISTS = st.one_of(
    st.lists(st.floats(-2, 2), max_size=6),
    st.sampled_from([[math.nan], [1.0, math.inf], [[1.0, 2.0]], [], np.arange(5.0)]),
)


class Recurrent(nn.Module):
    """A network of a layer that vmap cannot evaluate."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        return self.cell(x.unflatten(1, (1, 4)))[0][:, -1]


def network(name):
    """A small network in its usual state."""
    torch.manual_seed(0)
    return {
        "mlp": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
        "norm": lambda: nn.Sequential(
            nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, 3)
        ),
        "linear": lambda: nn.Linear(4, 3),
        "convolution": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.Flatten()
        ),
        "recurrent": Recurrent,
        "frozen": lambda: nn.Linear(4, 3).requires_grad_(False),
        "zero": lambda: _filled(0.0),
        "nan": lambda: _filled(math.nan),
        "huge": lambda: _filled(1e30),
        "half": lambda: nn.Linear(4, 3).half(),
        "double": lambda: nn.Linear(4, 3).double(),
        "one": lambda: nn.Linear(4, 1),
    }[name]()


def _filled(value):
    model = nn.Linear(4, 3)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def batches(name, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    pairs = [
        (torch.randn(n, 4, generator=generator, dtype=dtype), torch.arange(n) % 3)
        for n in (6, 6, 4)
    ]
    return {
        "pair": pairs[0],
        "list": pairs[:2],
        "short last": pairs,
        "empty": [],
        "nan": [(pairs[0][0] * math.nan, pairs[0][1])],
        "huge": [(pairs[0][0] * 1e30, pairs[0][1])],
        "wrong targets": [(pairs[0][0], pairs[0][1] + 7)],
        "float targets": [(pairs[0][0], pairs[0][1].float())],
        "wrong shape": [(pairs[0][0][:, :2], pairs[0][1])],
        "no tensors": [("x", "y")],
        "no rows": [(pairs[0][0][:0], pairs[0][1][:0])],
    }[name]


GOOD_MODELS = ("mlp", "norm", "linear", "convolution", "recurrent", "double")
MODELS = st.one_of(
    *[st.sampled_from(GOOD_MODELS)] * 5,
    st.sampled_from(["frozen", "zero", "nan", "huge", "half", "one"]),
)
BATCHES = st.one_of(
    *[st.sampled_from(["pair", "list", "short last"])] * 6,
    st.sampled_from(
        ["empty", "nan", "huge", "wrong targets", "float targets", "wrong shape", "no tensors",
         "no rows"]
    ),
)  # fmt: skip
PATTERNS = st.one_of(
    *[st.just(None)] * 4, st.sampled_from(["*", "*weight", "none*", "re:[", "", [], ["*", "x"]])
)
DIRECTIONS = st.sampled_from(["random", "random", "zero", "nan", "short", "matrix", "whole"])


def direction(name, size):
    found = torch.randn(size, generator=torch.Generator().manual_seed(3))
    return {
        "random": found,
        "zero": found * 0,
        "nan": found * math.nan,
        "short": found[:2],
        "matrix": found[None],
        "whole": found.long(),
    }[name]


class Call:
    """What a generated call works on: a model, its problem, and results that were made before."""

    made: dict = {}  # noqa: RUF012 - results are frozen, and costly to make for every call

    def __init__(self, draw):
        self.draw = draw
        self.models = []

    def model(self, name=None):
        found = network(self.draw(MODELS) if name is None else name)
        for parameter in found.parameters():
            parameter.grad = torch.ones_like(parameter)
        found.train(self.draw(st.booleans()))
        self.models.append((found, state(found)))
        return found

    def problem(self):
        name = self.draw(st.sampled_from(GOOD_MODELS))
        model = self.model(name)
        dtype = next(model.parameters()).dtype
        kind = self.draw(st.sampled_from(["pair", "list"]))
        return lla.Problem(
            model, batches(kind, dtype), mode=self.draw(st.sampled_from(["eval", "train"]))
        )

    def operator(self):
        return lla.HessianOperator(self.problem(), route=self.draw(st.sampled_from(ROUTES)))

    def once(self, name, make):
        if name not in self.made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.made[name] = make()
        return self.made[name]

    def small(self):
        return self.once("problem", lambda: lla.Problem(network("mlp"), batches("list")))

    def spectrum(self):
        return self.once(
            "spectrum", lambda: lla.spectral_density(lla.HessianOperator(self.small()), 2, 6)
        )

    def plane(self):
        kind = self.draw(st.sampled_from(["plane", "line", "part", "exploded"]))
        plane = self.once("plane", lambda: lla.loss_plane(self.small(), steps=4))
        if kind == "line":
            rows = landscape.random_directions(self.small().theta(), 1)
            return self.once("line", lambda: lla.loss_plane(self.small(), rows, steps=4))
        if kind == "part":
            return self.once("part", lambda: lla.loss_plane(self.small(), steps=4, part=(0, 3)))
        if kind == "exploded":
            return dataclasses.replace(plane, loss=np.full_like(plane.loss, np.nan))
        return plane

    def path(self):
        def make():
            generator = torch.Generator().manual_seed(2)
            return landscape.pca_path(torch.randn(5, self.small().space.size, generator=generator))

        return self.once("path", make)

    def arguments(self, **strategies):
        """Some of the named arguments, each drawn from its strategy."""
        return {n: self.draw(s) for n, s in strategies.items() if self.draw(st.booleans())}


ROUTES = ["linearized", "retained", "fresh", None]
WHOLE_MODELS = {"mode": choice("eval", "train"), "precision": choice("float32", "float64")}
SPECTRAL = {"probes": whole(1, 2, 3), "steps": whole(1, 3, 6), "seed": SEEDS, "memory": MEMORY}
TARGETS = st.one_of(
    number(0.5, 2.0),
    st.dictionaries(choice("re", "kh1", "kh05"), number(0.5), max_size=3),
)
PREPARED = {"count": whole(1, 2), "seed": SEEDS}


def criteria(c):
    given = c.arguments(
        **SPECTRAL,
        mode=choice("eval", "train"),
        reading=choice("product", "density"),
        legacy=st.booleans(),
        scope=choice("batches", "pooled"),
        parameters=PATTERNS,
        route=choice(*ROUTES[:3]),
        micro_batch=whole(1, 2, 5),
        weights=st.sampled_from([None, [1.0, 2.0], [0.0, 0.0], [-1.0], [math.nan, 1.0]]),
        precision=choice("float32", "float64"),
        check=st.booleans(),
    )
    if c.draw(st.integers(0, 4)) == 0:
        given["target_stderr"] = c.draw(TARGETS)
    return lla.criteria(c.model(), batches(c.draw(BATCHES)), **given)


def squares(output, y):
    """A loss that takes any targets of the batch's length."""
    return (output - y[:, None].to(output)).square().mean()


def problem(c):
    given = c.arguments(
        **WHOLE_MODELS,
        seed=SEEDS,
        weights=st.sampled_from([None, [1.0, 2.0], [0.0, 0.0], [-1.0]]),
        check=st.booleans(),
        loss=st.sampled_from([None, nn.functional.cross_entropy, squares]),
    )
    made = lla.Problem(c.model(), batches(c.draw(BATCHES)), **given)
    action = c.draw(st.sampled_from(["loss", "gradient", "micro", "at", "part", "losses"]))
    size = made.space.size
    if action == "losses":
        return made.loss(direction(c.draw(DIRECTIONS), size).to(made.dtype))
    if action == "micro":
        return made.in_micro_batches(c.draw(whole(1, 2))).loss()
    if action == "part":
        return made.part(c.draw(whole(1, 2))).loss()
    if action == "at":
        return made.at(made.theta() * 2).loss()
    return getattr(made, action)()


def operator(c):
    given = c.arguments(
        parameters=PATTERNS, route=choice(*ROUTES[:3]), memory=whole(10**9), products=whole(1, 100)
    )
    made = lla.HessianOperator(c.problem(), **given)
    vector = direction(c.draw(DIRECTIONS), made.shape[0])
    return made @ (vector.to(made.dtype) if isinstance(vector, torch.Tensor) else vector)


def spectral_density(c):
    given = c.arguments(**SPECTRAL, legacy=st.booleans(), stream=whole(0, 1), together=whole(1, 2))
    if c.draw(st.integers(0, 5)) == 0:
        given["target_stderr"] = c.draw(TARGETS)
    return lla.spectral_density(c.operator(), **given)


def top_eigenpairs(c):
    given = c.arguments(
        k=whole(1, 2), which=choice("LA", "SA", "LM", "BE"), seed=SEEDS, tol=number(1e-3, 1e-2),
        max_steps=whole(20, 30), basis_size=whole(6, 10), memory=MEMORY,
    )  # fmt: skip
    return lla.top_eigenpairs(c.operator(), **given)


def trace(c):
    given = c.arguments(
        method=choice("hutchinson", "hutch++"), rtol=number(0.1, 0.5), seed=SEEDS,
        max_matvecs=whole(40, 60), sketch=whole(1, 2),
    )  # fmt: skip
    return lla.trace(c.operator(), **given)


def loss_plane(c):
    made = c.problem()
    size = made.space.size
    axes = c.draw(
        st.one_of(
            *[st.sampled_from(["random", "hessian"])] * 3,
            st.sampled_from(["adam", "best", []]),
            st.builds(landscape.RandomAxes, choice("normal", "uniform"), whole(1, 2)),
            st.builds(landscape.HessianAxes, choice("LA", "SA", "LM", "BE"), whole(1, 2)),
            st.lists(DIRECTIONS.map(lambda name: direction(name, size)), max_size=3),
            st.builds(landscape.AdamAxes, st.none(), choice("add", "adameq")),
        )
    )
    methods = choice("auto", "weight", "filter", "layer", "model", "output")
    given = c.arguments(
        steps=whole(2, 4),
        distance=number(1.0, 0.1, 1e300, 1e39, 1e-30),
        seed=SEEDS,
        freeze=st.one_of(PATTERNS, st.sampled_from([range(1), range(9), range(0)])),
        recalibrate=st.sampled_from([None, True, False, []]),
        route=choice("loop", "slices", "stacked:2", "vmap:2", "vmap:0", "vmap:²", "vmap:99"),
        part=st.sampled_from([None, (0, 2), (1, 2), (2, 2), (0, 0), (0.5, 2)]),
        normalization=st.one_of(
            methods,
            st.builds(landscape.Normalization, methods, whole(1, 2), st.booleans()),
        ),
        coordinates=st.one_of(st.none(), st.tuples(LISTS, LISTS), st.tuples(LISTS)),
        scalars=st.sampled_from([None, {"a": landscape.accuracy}, {}]),
    )
    if c.draw(st.integers(0, 5)) == 0:
        return landscape.loss_planes(made, c.draw(whole(1, 2)), axes=axes, **given)
    return lla.loss_plane(made, axes, **given)


def of_spectrum(c):
    spectrum, action = c.spectrum(), c.draw(st.integers(0, 6))
    sigma = number(0.1, 1.0)
    if action == 0:
        return spectrum.density(**c.arguments(grid=LISTS, sigma=sigma))
    if action == 1:
        return spectrum.floor(**c.arguments(grid=LISTS, sigma=sigma))
    if action == 2:
        return spectrum.grid(**c.arguments(points=whole(10, 20), margin=number(0.1)))
    if action == 3:
        return spectrum.moment(c.draw(whole(0, 1, 2, 50)))
    if action == 4:
        return drawn(spectrum.plot(**c.arguments(sigma=sigma, floor=number(1e-3))))
    return lla.spectrum_criteria(spectrum, c.draw(choice("product", "density")))


def of_plane(c):
    plane, action = c.plane(), c.draw(st.integers(0, 7))
    if action == 0:
        return plane.minimum
    if action == 1:
        return plane.explosion(**c.arguments(explodes=number(100.0), rises=number(10.0)))
    if action == 2:
        return plane.asymmetry(c.draw(number(1.0, 2.0)))
    if action == 3:
        return plane.subset(*c.draw(st.lists(st.lists(whole(0, 1, 2), max_size=3), max_size=3)))
    if action == 4:
        return plane.scalar(c.draw(choice("accuracy", "loss")))
    if action == 5:
        parts = st.sampled_from([plane, c.plane(), c.plane()])
        return landscape.join(c.draw(st.lists(parts, max_size=3)))
    given = c.arguments(
        kind=choice("contour", "surface", "line"), cap=number(1.0, 10.0, 1e-9), log=st.booleans(),
        scalar=choice("loss"),
    )  # fmt: skip
    return drawn(plane.plot(**given))


def of_path(c):
    path, action = c.path(), c.draw(st.integers(0, 3))
    if action == 0:
        return path.grid(**c.arguments(points=whole(3, 5), margin=number(0.2)))
    if action == 1:
        return drawn(path.plot(c.draw(st.sampled_from([None, c.plane()]))))
    size = c.small().space.size
    vectors = st.lists(DIRECTIONS.map(lambda name: direction(name, size)), max_size=5)
    thetas = c.draw(st.one_of(vectors, st.sampled_from([torch.ones(3, 4), torch.eye(4)])))
    return landscape.pca_path(thetas)


def of_criteria(c):
    made = c.once(
        "criteria", lambda: lla.criteria(network("mlp"), batches("list"), probes=2, steps=5)
    )
    return made.reread(c.draw(choice("product", "density")))


def directions(c):
    made = c.problem()
    size = made.space.size
    one = direction(c.draw(DIRECTIONS), size)
    one = one.to(made.dtype) if isinstance(one, torch.Tensor) and len(one) > 2 else one
    action = c.draw(st.integers(0, 8))
    if action == 0:
        like = c.draw(st.sampled_from([made.theta(), one]))
        kinds = choice("normal", "uniform")
        return landscape.random_directions(like, **c.arguments(**PREPARED, distribution=kinds))
    if action == 1:
        return landscape.hessian_directions(
            made, **c.arguments(**PREPARED, which=choice("LA", "SA", "LM", "BE"), tol=number(1e-2))
        )
    if action == 2:
        return landscape.adam_directions(made, None)
    if action == 3:
        rows = c.draw(st.sampled_from([one, torch.ones(2, size), torch.zeros(2, size)]))
        return landscape.orthogonalized(rows)
    if action == 4:
        given = c.arguments(order=whole(1, 2), signed=st.booleans())
        method = c.draw(choice("weight", "filter", "layer", "model"))
        return landscape.normalize(one, made.theta(), made.space, method, **given)
    if action == 5:
        return landscape.normalize_output(made, one)
    if action == 6:
        return landscape.output_change(made, one)
    if action == 7:
        return landscape.layer_changes(made, one)
    return landscape.plane_directions(made, c.draw(choice("random", "hessian")))


def numbers(c):
    action = c.draw(st.integers(0, 5))
    values = c.draw(st.lists(st.floats(), max_size=5).map(np.array))
    if action == 0:
        given = c.arguments(explodes=number(100.0), rises=number(10.0))
        return landscape.explosion(values, c.draw(number(1.0)), c.draw(whole(10)), **given)
    if action == 1:
        along = c.draw(st.sampled_from([np.linspace(-1, 1, len(values)), np.arange(3.0), values]))
        return landscape.asymmetry(values, (along,), c.draw(number(1.0)))
    if action == 2:
        return landscape.grid(**c.arguments(steps=whole(2, 4), distance=number(1.0)))
    if action == 3:
        return landscape.nested(c.draw(whole(3, 5)), c.draw(whole(4, 40)))
    if action == 4:
        given = c.arguments(over=choice("batches", "probes"), max_matvecs=whole(10))
        return lla.Target(c.draw(TARGETS), **given)
    space = c.small().space
    action = c.draw(st.sampled_from(["select", "unflatten", "flatten"]))
    if action == "select":
        return space.select(c.draw(PATTERNS))
    # only views are made, of whatever is given
    return getattr(space, action)(direction(c.draw(DIRECTIONS), space.size).nan_to_num())


NAMES = choice("digits", "sample-crops", "mnist", "lenet", "mlp", "resnet20")


def of_data(c):
    action = c.draw(st.integers(0, 9))
    images = c.once("images", lambda: data.load("digits", "test"))
    crops = c.once("crops", lambda: data.load_pictures("sample-crops"))
    devices = st.sampled_from([None, "cpu", "foo", "cuda", "meta"])
    roots = st.sampled_from([None, "/", "/nowhere", "~nobody-is-called-so/data", ""])
    if action == 0:
        given = c.arguments(
            count=whole(1, 2), seed=SEEDS, device=devices, size=whole(32), mean=number(0.5),
            std=number(0.5), dtype=st.sampled_from([torch.float32, torch.float64, torch.int32]),
        )  # fmt: skip
        return data.batches(images, c.draw(whole(2, 4)), **given)
    if action == 1:
        return data.load(c.draw(NAMES), c.draw(choice("train", "test")), c.draw(roots)).labels
    if action == 2:
        return data.load_pictures(c.draw(NAMES), c.draw(roots)).labels
    if action == 3:
        view = data.PicturePreprocessing(**c.arguments(resize=whole(36), crop=whole(32)))
        given = c.arguments(count=whole(1), seed=SEEDS, device=devices)
        small = view.scaled(c.draw(whole(16, 24)))
        return data.picture_batches(crops, small, c.draw(whole(1, 2)), **given).pairs
    if action == 4:
        return data.read_pictures(c.draw(st.sampled_from(["/nowhere", "~nobody-is-called-so"])))
    if action == 5:
        return data.to_grayscale(c.draw(st.sampled_from([images.images[:2], torch.ones(3)])))
    if action == 6:
        return data.verify(c.draw(NAMES), c.draw(roots))
    if action == 7:
        return data.describe(c.draw(roots))
    if action == 8:
        return data.check_pictures(c.draw(st.sampled_from(["/nowhere", "~nobody-is-called-so"])))
    return data.describe_pictures(c.draw(roots))


def of_models(c):
    action = c.draw(st.integers(0, 4))
    name = c.draw(choice("lenet", "mlp", "resnet20"))
    if action == 0:
        return models.preprocessing(name)
    if action == 1:
        return models.picture_preprocessing(
            c.draw(choice("resnet18", "alexnet")), c.draw(whole(64))
        )
    if action == 2:
        return models.find_pretrained(c.draw(choice("resnet18", "lenet")))
    if action == 3:
        file = c.draw(st.sampled_from(["/nowhere", "/", __file__, ""]))
        return models.load_weights(c.model("linear"), file)
    given = c.arguments(
        num_classes=st.sampled_from([2, 10, 0, -1, 2.5, "3"]), seed=SEEDS,
        init=choice("torch", "uniform"),
    )  # fmt: skip
    return models.build(name, **given)


FUNCTIONS = (
    criteria, problem, operator, spectral_density, top_eigenpairs, trace, loss_plane, of_spectrum,
    of_plane, of_path, of_criteria, directions, numbers, of_data, of_models,
)  # fmt: skip


def drawn(figure):
    """A figure as a number that is finite."""
    return float(len(figure.axes))


def state(model):
    """Everything of a model that a call must not change."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "tensors": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        "grad": {
            n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()
        },
        "training": [module.training for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "trainable": [p.requires_grad for p in model.parameters()],
    }


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def random_states():
    numpy = np.random.get_state()  # noqa: NPY002 - a call must not draw from it
    return {
        "Python": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "NumPy": (numpy[1].tolist(), numpy[2:]),
    }


def changed(before):
    """The names of the random states that are not as before."""
    return [name for name, now in random_states().items() if now != before[name]]


def settings_of_the_process():
    return (
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(),
        torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled(),
        torch.are_deterministic_algorithms_enabled(), np.geterr(),
    )  # fmt: skip


def finite(result, within=()):
    """Whether all numbers of a result are finite, where it does not say itself that some are not.

    A plane holds what an explosion gives, and so do its centre's ratio and verdict. Criteria
    without a target, and what no sample tells, are NaN by definition.
    """
    if isinstance(result, lla.Plane | landscape.Explosion | landscape.Asymmetry):
        return True
    if isinstance(result, lla.Criteria):
        return all(
            estimate.n == 0 or finite(estimate)
            for estimate in (result.re, result.kh1, result.kh05, result.negative_share)
        ) and finite(result.spectra)
    if isinstance(result, torch.Tensor):
        return bool(result.isfinite().all())
    if isinstance(result, np.ndarray):
        return result.dtype.kind not in "fc" or bool(np.isfinite(result).all())
    if isinstance(result, float):
        return math.isfinite(result)
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return all(finite(getattr(result, f.name)) for f in dataclasses.fields(result))
    if isinstance(result, dict):
        return all(map(finite, result.values()))
    if isinstance(result, list | tuple):
        return all(map(finite, result))
    return True


def of_ours(warning):
    """Whether a warning is this library's own: a sentence about what it was asked for."""
    return warning.category is UserWarning and str(warning.message).startswith(SENTENCES)


SENTENCES = ("steps=", "recalibrate: ", "after ", "the Hessian-vector products", "left out: ")


def attempt(function, draw, outcomes):
    """One call: count how it ends, and check what it leaves behind."""

    def aside(strategy):  # what hypothesis draws from is not the call's
        states = random.getstate()
        drawn_value = draw(strategy)
        random.setstate(states)
        return drawn_value

    call = Call(aside)
    strict = draw(st.booleans())
    torch.manual_seed(5)
    before, process = None, settings_of_the_process()
    # results that calls share are made first, so that these do not count as a change
    call.spectrum(), call.path(), call.plane()
    with warnings.catch_warnings(record=True) as given_warnings:
        warnings.simplefilter("always")
        with np.errstate(all="raise") if strict else contextlib.nullcontext():
            watched = Watched(call)
            before = random_states()
            try:
                result = function(watched)
            except OWN as error:
                outcomes[type(error).__name__] += 1
                message = str(error)
                assert message, "an error without a message"
                assert "\n" not in message, f"an error of several lines: {message}"
            else:
                outcomes["finite"] += 1
                assert finite(result), f"{function.__name__} gives {result}"
    assert not changed(before)
    assert settings_of_the_process() == process, "a setting of the process has changed"
    for model, earlier in call.models:
        assert same(state(model), earlier), "the model has changed"
    others = [str(warning.message) for warning in given_warnings if not of_ours(warning)]
    assert not others, f"a warning of another library: {others[0]}"


class Watched(Call):
    """A call whose own preparations leave the random states as they were."""

    def __init__(self, call):
        self.draw, self.models = call.draw, call.models

    def model(self, name=None):
        with RandomStates().kept():
            return super().model(name)

    def once(self, name, make):
        with RandomStates().kept():
            return super().once(name, make)


@pytest.mark.hard_use(
    "calls of the public functions with generated arguments, as many as are counted here, give a "
    "finite result or one of the library's own errors, and change no random state and no model"
)
@pytest.mark.timeout(10_000 if LONG else 300)
@pytest.mark.filterwarnings("default")
def test_generated_calls_of_the_library(record_property):
    outcomes = Counter()

    @budget("library")
    @given(st.data())
    def calls(drawn_data):
        function = drawn_data.draw(st.sampled_from(FUNCTIONS))
        attempt(function, drawn_data.draw, outcomes)

    calls()
    record_property("measured", said(outcomes))


def said(outcomes):
    ends = ", ".join(f"{count} {name}" for name, count in outcomes.most_common())
    return f"{sum(outcomes.values())} calls: {ends}"


# The command line: options with values that are good, wrong, or do not apply.
COUNTS = ["1", "2", "3", "0", "-1", "2.5", "x", "", "1000000000000", "1e3"]
REALS = ["0.5", "1", "0", "-1", "nan", "inf", "1e300", "1e-300", "x", ""]
NETWORKS = ["mlp", "lenet", "linear_net:make", ":make", ".x:make", "linear_net:",
            "linear_net:value",
            "linear_net:needs", "linear_net:fails", "linear_net:gives_none", "nowhere:make", "",
            "best", "mlpp"]  # fmt: skip
SHARED = {
    "--data": ["digits", "digits", "digits", "sample-crops", "nothing", ""],
    "--split": ["train", "test", "all", ""],
    "--weights": ["/nowhere.pth", "/", "pretrained", ""],
    "--mode": ["eval", "train", "best"],
    "--batches": COUNTS,
    "--size": ["32", "0", "-1", "100000000000", "x"],
    "--steps": ["2", "4", *COUNTS],
    "--seed": ["0", "1", "18446744073709551615", "18446744073709551616", "-1", "x"],
    "--precision": ["float32", "float64", "float16"],
    "--device": ["cpu", "cuda", "cuda:7", "foo", "meta", "", "cpu:99"],
    "--data-root": ["/", "/nowhere", "~nobody-is-called-so"],
}
OPTIONS = {
    "criteria": {
        **SHARED,
        "--probes": COUNTS,
        "--reading": ["product", "density", "best"],
        "--legacy": None,
        "--pooled": None,
        "--parameters": ["*", "*weight", "none*", "re:[", ""],
        "--micro-batch": COUNTS,
        "--target-stderr": REALS,
        "--over": ["batches", "probes", "best"],
    },
    "plane": {
        **SHARED,
        "--axes": ["random", "hessian", "best"],
        "--distribution": ["normal", "uniform", "best"],
        "--normalization": ["auto", "output", "filter", "layer", "model", "weight", "none", "best"],
        "--distance": REALS,
        "--accuracy": None,
        "--recalibrate": None,
        "--freeze": ["*bias", "*", "none*", "re:[", ""],
        "--cap": REALS,
    },
}
FACTORIES = """
import torch
value = 3
def make():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
def needs(width):
    return make()
def fails():
    raise KeyError("no")
def gives_none():
    pass
"""


@st.composite
def command_lines(draw):
    if draw(st.integers(0, 9)) == 0:
        name = draw(st.sampled_from(["digits", "mnist", "nothing", "", "sample-crops"]))
        roots = draw(st.sampled_from([[], ["--data-root", "/nowhere"], ["--data-root", "/"]]))
        command = draw(
            st.sampled_from([["list"], ["verify", name], ["check-pictures", "/nowhere"]])
        )
        return ["data", *command, *(roots if command[0] != "check-pictures" else [])]
    command = draw(st.sampled_from(sorted(OPTIONS)))
    line = [command, draw(st.one_of(*[st.just("mlp")] * 3, st.sampled_from(NETWORKS)))]
    line += [
        "--data",
        "digits",
        "--batch-size",
        draw(st.sampled_from(["4", "8", "8", "0", "9999"])),
    ]
    line += ["--steps", "2", *(["--probes", "2"] if command == "criteria" else [])]
    for option in draw(st.lists(st.sampled_from(sorted(OPTIONS[command])), max_size=3)):
        values = OPTIONS[command][option]
        line += [option] if values is None else [option, draw(st.sampled_from(values))]
    return line


@pytest.mark.hard_use(
    "Generated command lines end with a result or with one sentence and exit code 2"
)
@pytest.mark.timeout(10_000 if LONG else 300)
@pytest.mark.filterwarnings("default")
def test_generated_command_lines(tmp_path, monkeypatch, record_property):
    (tmp_path / "linear_net.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outcomes = Counter()

    @budget("command line")
    @given(command_lines())
    def calls(line):
        torch.manual_seed(5)
        before = random_states()
        more = ["--out", "out"] if line[0] == "plane" else []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = CliRunner().invoke(app, [*line, *more])
        assert isinstance(result.exception, (SystemExit, type(None))), (line, result.exception)
        assert result.exit_code in (0, 1, 2), line
        assert "Traceback" not in result.output
        assert result.exit_code != 2 or result.stderr.strip(), "a failure without a sentence"
        assert not changed(before)
        outcomes[f"exit {result.exit_code}"] += 1

    calls()
    record_property("measured", said(outcomes))
