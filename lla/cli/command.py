"""The application, its errors, and what all commands that measure a network have in common."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Protocol, get_type_hints

import typer

import lla
from lla.cli.inputs import BATCH_SIZE, Inputs, load_inputs
from lla.cli.own_functions import is_function
from lla.cli.processes import is_first, joined
from lla.errors import LIBRARY_ERRORS, InputError
from lla.estimate import Estimate
from lla.files import atomic_write, check_folder
from lla.plotting import write_png
from lla.problem import Mode
from lla.ranks import alone, present

if TYPE_CHECKING:
    from matplotlib.figure import Figure

app = typer.Typer(
    help="Loss landscapes and Hessian spectra of PyTorch models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

LIST_WIDTH = 100  # columns that lists fit into

DataRoot = Annotated[
    Path | None, typer.Option(help="Folder with the data sets (default: $LLA_DATA).")
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lla {lla.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Loss landscapes and Hessian spectra of PyTorch models."""


@contextmanager
def one_sentence(as_json: bool = False) -> Iterator[None]:
    """Show only the message of the library's own errors, without a traceback.

    Args:
        as_json: show it as an object with the key `error`, on standard output.
    """
    try:
        yield
    except LIBRARY_ERRORS as error:
        fail(str(error), as_json)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show the sentence of a warning, without the place in the code that it comes from."""
    with warnings.catch_warnings():
        if is_first():
            show = partial(typer.echo, err=True)
            warnings.showwarning = lambda message, *_: show(f"Warning: {message}")
        else:
            warnings.simplefilter("ignore")
        yield


def fail(sentence: str, as_json: bool = False) -> NoReturn:
    """Show why a command cannot go on, and end it with exit code 2."""
    if as_json and is_first():
        typer.echo(json.dumps({"error": sentence}))
    elif is_first():
        typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(2)


@dataclass(frozen=True)
class Given:
    """What every command that measures is given: a network, data, and where results go.

    Each annotation holds the help text of its option.
    """

    model: Annotated[
        str,
        typer.Argument(
            help="A name of `lla models`, timm:NAME, torchvision:NAME, hf:FOLDER, or "
            "package.module:function that makes a network."
        ),
    ]
    data: Annotated[
        str,
        typer.Option(
            help="A name of `lla data list`, a folder of pictures, or package.module:function "
            "that gives batches, which are all used."
        ),
    ] = "mnist"
    split: Annotated[
        str | None,
        typer.Option(help="Split of the data set; pictures have none (default: train)."),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(help="A checkpoint, or `pretrained`; without this, random weights."),
    ] = None
    mode: Annotated[Mode, typer.Option(help="Mode of BatchNorm and dropout.")] = "eval"
    batches: Annotated[
        int | None, typer.Option(min=1, help="Number of batches, drawn at random.")
    ] = None
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in each batch.")] = None
    size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side in pixels of pictures, and of the input of vision transformers."
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and random vectors.")] = 0
    precision: Annotated[
        Literal["float32", "float64"], typer.Option(help="Floating-point type of the computation.")
    ] = "float32"
    device: Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1, ...")] = "cpu"
    data_root: DataRoot = None
    download: Annotated[bool, typer.Option(help="Fetch data and weights that are missing.")] = False
    out: Annotated[
        Path | None, typer.Option(help="Folder for numbers, pictures and the command.")
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False
    usual: tuple[int, int] = (1, BATCH_SIZE)  # batches and their size by default; not an option

    @property
    def progress(self) -> bool:
        """Whether to show progress: to a person who did not ask for silence."""
        return sys.stderr.isatty() and is_first() and not (self.quiet or self.as_json)

    def load(self) -> Inputs:
        """The network with its weights, and the batches."""
        return load_inputs(
            self.model, self.data, split=self.split, weights=self.weights, batches=self.batches,
            batch_size=self.batch_size, size=self.size, seed=self.seed, device=self.device,
            data_root=self.data_root, download=self.download, usual=self.usual,
        )  # fmt: skip

    @property
    def title(self) -> str:
        """What stands above pictures: network, weights, data and mode."""
        weights = "random weights" if self.weights is None else Path(self.weights).name
        return f"{self.model} ({weights}) on {Path(self.data).name}, {self.mode} mode"

    @property
    def network(self) -> str:
        """Network and data as on a command line: what is not at its default."""
        words = [self.model]
        for name in ("data", "split", "weights", "size", "device", "data_root"):
            words += _option(name, getattr(self, name), getattr(type(self), name))
        if not is_function(self.data):
            words += _option("batch_size", self.batch_size or self.usual[1], None)
        return shlex.join(words)

    def problem(self, inputs: Inputs) -> lla.Problem:
        """The loss of the loaded network on the loaded batches."""
        return lla.Problem(
            inputs.model, inputs.batches, mode=self.mode, seed=self.seed,
            precision=self.precision,
        )  # fmt: skip


Writer = Callable[[Path], Any]  # writes something to a path
Files = Mapping[str, Writer]  # by name


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        inputs: what was measured.
        text: for people.
        numbers: for programs; values that JSON can hold, or estimates.
        files: written into --out, in this order.
    """

    inputs: Inputs
    text: str
    numbers: dict[str, Any]
    files: Files = field(default_factory=dict)


class _Result(Protocol):
    def save(self, path: str | os.PathLike[str]) -> None: ...
    def plot(self, *, title: str | None = None) -> Figure: ...


def result_files(given: Given, name: str, result: _Result) -> dict[str, Writer]:
    """The files of a result: its arrays and its picture."""
    return {f"{name}.npz": result.save, f"{name}.png": picture(given, result.plot)}


def picture(given: Given, plot: Callable[..., Figure], *args: Any, **options: Any) -> Writer:
    """What writes a picture to a path, with the title of the command.

    Args:
        given: network and data.
        plot: the method of a result.
        *args: of the method.
        **options: of the method.
    """
    return lambda path: write_png(plot(*args, title=given.title, **options), path)


def measuring(
    *,
    batches: int = 1,
    batch_size: int = BATCH_SIZE,
    defaults: Mapping[str, Any] | None = None,
    earlier: Sequence[str] | None = None,
    without: Sequence[str] = (),
    together: bool = False,
) -> Callable[[Callable[..., Outcome]], Callable[..., None]]:
    """Make a command of a function that measures a network.

    The command has the options of `Given` and those of the function. It finds out before any work
    whether --out can be written and holds no earlier result, shows errors in one sentence, and
    shows and writes the outcome.

    Args:
        batches: drawn by default.
        batch_size: images in each of them by default.
        defaults: of options of `Given`, in place of those there.
        earlier: files of an earlier run, as globs; by default those whose names begin with the
            name of the command. An empty list leaves this to the function.
        without: options of `Given` that do not apply.
        together: under torchrun all processes share the work; else the first one does all of it.
    """

    def decorate(function: Callable[..., Outcome]) -> Callable[..., None]:
        name = function.__name__.replace("_", "-")
        shared = _parameters(Given, skipped=("usual", *without))
        for option, value in (defaults or {}).items():
            shared[option] = shared[option].replace(default=value)
        for option, text in (
            ("batches", f"Number of batches, drawn at random (default: {batches})."),
            ("batch_size", f"Images in each batch (default: {batch_size})."),
        ):
            annotation = Annotated[int | None, typer.Option(min=1, help=text)]
            shared[option] = shared[option].replace(annotation=annotation)
        own = _parameters(function, skipped=("given",))
        last = ("out", "as_json", "quiet")
        order = {
            **{k: p for k, p in shared.items() if k not in last},
            **own,
            **{k: shared[k] for k in last},
        }

        def run(**values: Any) -> None:
            mine = {k: values.pop(k) for k in own}
            given = Given(**values, usual=(batches, batch_size))
            if not (together or is_first()):
                return
            shared = joined(given.device) if together else alone()
            with one_sentence(given.as_json), plain_warnings(), shared:
                with present().agreed():
                    if given.out is not None and is_first():
                        check_folder(given.out)  # before the work, not after it
                        refuse_earlier(given.out, *([f"{name}.*"] if earlier is None else earlier))
                lla.tune_allocator()
                outcome = function(given, **mine)
                if is_first():
                    command = _command(name, order, {**values, **mine})
                    _show(given, outcome, command)

        run.__signature__ = inspect.Signature(list(order.values()))  # type: ignore[attr-defined]
        run.__annotations__ = {k: p.annotation for k, p in order.items()}
        run.__doc__ = function.__doc__
        return app.command(name)(run)

    return decorate


def _parameters(source: Callable[..., Any], skipped: Sequence[str]) -> dict[str, inspect.Parameter]:
    """The parameters of a function or a dataclass, as keywords with resolved annotations."""
    hints = get_type_hints(source, include_extras=True)
    return {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in inspect.signature(source).parameters.items()
        if name not in skipped
    }


def _command(name: str, known: dict[str, inspect.Parameter], values: dict[str, Any]) -> str:
    """The command line that does the same: what is not at its default."""
    words = ["lla", name]
    for key, parameter in known.items():
        value = values[key]
        if key == "model":
            words.append(value)
        elif key == "as_json":
            words += ["--json"] * value
        else:
            words += _option(key, value, parameter.default)
    return shlex.join(words)


def _option(name: str, value: Any, default: Any) -> list[str]:
    """An option as words of a command line; none if it is at its default."""
    if value == default or value is None:
        return []
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    values = value if isinstance(value, list | tuple) else [value]
    return [word for each in values for word in (option, str(each))]


def refuse_earlier(out: Path, *patterns: str) -> None:
    """Refuse a folder that holds files of an earlier run: some of them would be left there."""
    found = min((path.name for pattern in patterns for path in out.glob(pattern)), default=None)
    if found is not None:
        raise InputError(
            f"{out} holds {found} of an earlier run: name another folder, or empty this one"
        )


def _show(given: Given, outcome: Outcome, command: str) -> None:
    """Print an outcome, and write it where --out says."""
    facts = {
        "model": given.model, "weights": outcome.inputs.weights, "data": outcome.inputs.data,
        "mode": given.mode, "precision": given.precision, "seed": given.seed,
        "version": lla.__version__, "command": command,
    }  # fmt: skip
    numbers = {**plain(outcome.numbers), **facts}
    if not given.as_json:  # first, so that a full disk does not take the numbers away
        where = f"{given.model}, {outcome.inputs.weights}, on {outcome.inputs.data}"
        typer.echo(f"{outcome.text}\n\n{where}; {given.mode} mode, {given.precision}")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(numbers, allow_nan=False, indent=1)
        atomic_write(given.out / "numbers.json", text + "\n")
        for name, write in outcome.files.items():
            write(given.out / name)
    if given.as_json:
        typer.echo(json.dumps(numbers, allow_nan=False))
    elif given.out is not None:
        typer.echo(f"wrote {', '.join(['numbers.json', *outcome.files])} into {given.out}")


def plain(value: Any) -> Any:
    """A value as JSON has it: estimates as objects, numbers that are not finite as null.

    >>> plain({"re": Estimate(0.5, 0.1, 3, 30), "ratio": float("inf")})
    {'re': {'value': 0.5, 'stderr': 0.1, 'n': 3}, 'ratio': None}
    """
    if isinstance(value, Estimate):
        found = {"value": value.value, "stderr": value.stderr, "n": value.n}
        return {k: plain(v) for k, v in found.items()}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value
