"""Records: one JSON line for each number, with everything needed to judge and to repeat it.

A file of records is replaced as a whole, under a lock, so that it is valid at every moment: a
process killed while it writes leaves the old file or the new one, never half of either.
Tables, figures and verdicts on claims are made from records alone.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import pydantic
from pydantic import AfterValidator, StringConstraints, WrapValidator
from pydantic.dataclasses import dataclass

from lla.errors import InputError, NonFiniteError
from lla.files import atomic_write, locked, sha256_of_bytes

VERDICTS = ("reproduced", "close", "differs", "not_run")
FIDELITIES = ("paper", "reduced", "replication", "substitute")
STDERR_KINDS = ("probes", "batches", "examples", "planes", "networks")

# Matches an absolute path anywhere in a text, but not `train/random` or `https://`.
_ABSOLUTE_PATH = re.compile(r"""(?:^|[\s'"(=:,])(?:/[\w.~-]|~/|[A-Za-z]:[\\/]|\\\\\w)|file://""")


def _one_of(words: tuple[str, ...]) -> AfterValidator:
    def check(word: str) -> str:
        if word not in words:
            raise ValueError(f"it takes one of {', '.join(words)}")
        return word

    return AfterValidator(check)


def _finite(value: float, check: pydantic.ValidatorFunctionWrapHandler) -> float:
    checked = check(value)
    if not isinstance(value, int):
        return checked
    if not -LARGEST <= value <= LARGEST:
        raise ValueError("it is too large a number")
    return value  # 1 is written as 1, not as 1.0


def _plain_word(name: str) -> str:
    """Refuse a name that could not begin the name of a file."""
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError("it takes letters, digits, _ and -, for files are named by it")
    return name


def _inside(name: str) -> str:
    """Refuse the name of a file that does not lie below the folder that it is relative to."""
    parts = name.replace("\\", "/").split("/")
    if ":" in name or "\0" in name or not all(part.strip(". ") for part in parts):
        raise ValueError("it takes a name below the folder of results, such as planes/a.npz")
    return name


LARGEST = 2**63 - 1  # of the integers that tables can hold
_DEEPEST = 32  # levels of nested mappings and lists

Name = Annotated[str, StringConstraints(strict=True, min_length=1)]
Label = Annotated[str, AfterValidator(_plain_word)]
Integer = Annotated[int, pydantic.Field(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[int, pydantic.Field(ge=0, le=LARGEST)]
Count = Annotated[int, pydantic.Field(ge=1, le=LARGEST)]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern="^[0-9a-f]{64}$")]
Number = Annotated[float, pydantic.Field(allow_inf_nan=False), WrapValidator(_finite)]
Duration = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False), WrapValidator(_finite)]

T = TypeVar("T")


def _one_sentence(cls: type[T]) -> type[T]:
    """Make a pydantic class refuse wrong fields with the library's own errors."""
    validate = cls.__init__
    names = list(cls.__annotations__)  # the order of positional arguments

    @functools.wraps(validate)
    def init(self: T, *args: Any, **fields: Any) -> None:
        try:
            validate(self, *args, **fields)
        except pydantic.ValidationError as error:
            raise _refusal(error, names) from None

    cls.__init__ = init  # type: ignore[assignment,method-assign]
    return cls


@_one_sentence
@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Source:
    """A named input or output and the sha256 of its content.

    Raises:
        InputError: the name is empty, or the digest is not 64 lower-case hexadecimal digits.
    """

    name: Name
    sha256: Sha256


def _file_inside(source: Source) -> Source:
    _inside(source.name)
    return source


# Fields that records of before 2026-12 do not have; they are written where they say something.
_LATER = ("cpu", "session")


@_one_sentence
@dataclass(frozen=True, kw_only=True, config=pydantic.ConfigDict(strict=True, extra="forbid"))
class Record:
    """One number of a table, or the reason why there is none.

    `(table, row, column, metric, config_hash)` is its identity. Two records are comparable when
    their `config` is equal: it holds everything that determines the value and nothing else.

    Raises:
        NonFiniteError: a number is NaN or infinite.
        InputError: a field has the wrong type or an unknown word, contradicts another field, or
            holds an absolute path (records are published: they say nothing of the machine).
    """

    table: Label  # "table2"
    row: Name  # "lenet"
    column: Name  # "random/eval"
    metric: Name  # "kh1"
    value: Number | None  # None exactly when not run
    stderr: Number | None = None
    n: Count | None = None  # samples behind the stderr
    stderr_kind: Annotated[str, _one_of(STDERR_KINDS)] | None = None
    paper_value: str | None = None  # as printed, "0.37": its digits are part of the verdict
    # None: nothing to judge, or a substitute
    verdict: Annotated[str, _one_of(VERDICTS)] | None = None
    fidelity: Annotated[str, _one_of(FIDELITIES)] | None = None  # None only when not run
    reason: str | None = None  # why it was not run
    note: str | None = None

    seed: Integer | None = None
    dtype: str | None = None
    m: Count | None = None  # Lanczos steps
    probes: Count | None = None
    batches: Count | None = None
    batch_size: Count | None = None
    reading: str | None = None  # "product" | "density"
    legacy: bool | None = None
    route: str | None = None  # how the Hessian products were computed
    data: Source | None = None
    batch_sha256: Sha256 | None = None  # the very examples drawn from `data`
    weights: Source | None = None
    # a file beside the records, named relative to their folder
    artifact: Annotated[Source, AfterValidator(_file_inside)] | None = None
    profile: str | None = None

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config_hash: str = ""  # filled in from config when left empty

    code_version: str | None = None
    torch: str | None = None
    threads: Count | None = None
    device: str | None = None
    cpu: str | None = None  # its kind, see `machine.cpu_kind`
    session: str | None = None  # of benchmarks: when it began
    allocator_tuned: bool | None = None
    seconds: Duration | None = None
    matvecs: Amount | None = None
    peak_memory: Amount | None = None  # bytes

    def __post_init__(self) -> None:
        _check_plain(self.config)
        expected = config_hash(self.config)
        # As JSON gives it back (tuples become lists), so that a record equals itself when read.
        object.__setattr__(self, "config", json.loads(json.dumps(self.config)))
        if not self.config_hash:
            object.__setattr__(self, "config_hash", expected)
        elif self.config_hash != expected:
            raise InputError(
                f"config_hash is {self.config_hash!r}, but the config hashes to {expected!r}: "
                "leave config_hash empty to have it filled in"
            )
        self._check_consistency()
        texts = list(_strings(vars(self)))
        try:
            "".join(texts).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"a text of the record cannot be written as UTF-8: {error}") from None
        if names_a_place("\n".join(texts)):  # one search is faster than one for each text
            text = next(text for text in texts if names_a_place(text))
            raise InputError(
                f"a record holds the path {text!r}: records are published, name files relative "
                "to the folder of results"
            )

    def _check_consistency(self) -> None:
        not_run = self.verdict == "not_run"
        if (self.value is None) != not_run:
            raise InputError(
                f"value is {self.value!r} with the verdict {self.verdict!r}: a record has no value "
                "exactly when it was not run"
            )
        if not_run != bool(self.reason):
            raise InputError(
                f"reason is {self.reason!r} with the verdict {self.verdict!r}: say why exactly "
                "when a cell was not run"
            )
        if not not_run and self.fidelity is None:
            raise InputError(f"fidelity is missing: say one of {', '.join(FIDELITIES)}")
        if self.stderr is not None and self.stderr < 0:
            raise InputError(f"stderr is {self.stderr}: a standard error is not negative")
        if self.fidelity == "substitute" and self.verdict not in (None, "not_run"):
            raise InputError(
                f"a substitute has the verdict {self.verdict!r}: a stand-in is never judged"
            )

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """The identity: table, row, column, metric and config hash."""
        return (self.table, self.row, self.column, self.metric, self.config_hash)

    def to_json(self) -> str:
        """The record as one line of JSON, without the newline."""
        return self._json

    @functools.cached_property
    def _json(self) -> str:  # made once, as each added record rewrites the file
        values = dataclasses.asdict(self)
        for name in _LATER:
            if values[name] is None:
                del values[name]
        return json.dumps(values, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read one line of JSON.

        The same line gives the same object, so its config is not to be written to.

        Raises:
            InputError: the line is not a valid record.
            NonFiniteError: it holds NaN or an infinity.
        """
        return _from_json(line)


_FIELDS = {field.name for field in dataclasses.fields(Record)}


@functools.lru_cache(maxsize=2**14)  # files are read and checked again and again
def _from_json(line: str) -> Record:
    try:
        fields = json.loads(
            line, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats
        )
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # a number may have too many digits
        raise InputError(f"not valid JSON ({error}): repair or remove the line") from None
    if not isinstance(fields, dict):
        raise InputError(f"a record is a JSON object, not {type(fields).__name__}")
    wrong = ", ".join(sorted(set(fields) ^ _FIELDS - (set(_LATER) - set(fields))))
    if wrong:
        raise InputError(f"unknown or missing fields: {wrong}")
    if not fields["config_hash"]:
        raise InputError("config_hash is empty: every written record has one")
    return Record(**fields)


def names_a_place(text: str) -> bool:
    """Whether a text holds an absolute path, which no record may.

    >>> names_a_place("no file ~/x.pt"), names_a_place("no file x.pt")
    (True, False)
    """
    return _ABSOLUTE_PATH.search(text) is not None


def seconds_of(records: Iterable[Record]) -> dict[tuple[str, ...], float]:
    """How long each of the cells took that some records are of.

    The seconds of a cell stand in each of its records.
    """
    return {(r.table, r.row, r.column, r.config_hash): r.seconds or 0.0 for r in records}


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash a configuration.

    Args:
        config: anything JSON can hold; the order of keys does not matter.

    Returns:
        The first 16 hexadecimal digits of the sha256 of its canonical JSON.

    Raises:
        InputError: it holds NaN, an infinity, or what JSON cannot hold.

    >>> config_hash({"m": 100, "mode": "eval"}) == config_hash({"mode": "eval", "m": 100})
    True
    """
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the configuration cannot be hashed: {error}") from None
    return sha256_of_bytes(text)[:16]


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """Read and validate a file of records.

    Args:
        path: a JSON Lines file.

    Returns:
        Its records, in order.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: a line is broken or repeats an earlier one's identity; the message names the
            file and the line.
    """
    records: dict[tuple[str, ...], Record] = {}
    # Not splitlines(): it also splits at separators that JSON leaves as they are in a text.
    lines = Path(path).read_bytes().removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines if lines != [b""] else [], start=1):
        try:
            record = Record.from_json(_decoded(line))
        except (InputError, NonFiniteError) as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        if record.key in records:
            raise InputError(
                f"{path}, line {number}: {'/'.join(record.key)} stands here a second time: "
                "remove one of the two"
            )
        records[record.key] = record
    return list(records.values())


def write_records(path: str | os.PathLike[str], records: Iterable[Record]) -> None:
    """Add records to a file; those of equal identity take the place of the old.

    Args:
        path: a JSON Lines file; made, with its folder, if it is missing.
        records: what to add.

    Raises:
        InputError: the file that is there is broken (it is left alone).
    """
    update_records(path, functools.partial(_merge, new=list(records)))


def update_records(
    path: str | os.PathLike[str], function: Callable[[list[Record]], Sequence[Record]]
) -> None:
    """Replace a file's records by what `function` makes of them, under the file's lock.

    Args:
        path: a JSON Lines file; made, with its folder, if it is missing.
        function: takes the records that are there ([] without a file), returns those to keep.

    Raises:
        InputError: the file that is there is broken (it is left alone).
    """
    path = Path(path)
    with locked(path.with_name(".lock")):
        old = read_records(path) if path.exists() else []
        new = function(old)
        # Unchanged records are not written again, so that readers can rely on the file's time.
        if list(new) != old or not path.exists():
            atomic_write(path, "".join(record.to_json() + "\n" for record in new))


def _merge(old: list[Record], new: list[Record]) -> list[Record]:
    records = {record.key: record for record in old}
    records.update((record.key, record) for record in new)
    return list(records.values())


_ADVICE = {
    "string_pattern_mismatch": "give its 64 hex digits",
    "string_too_short": "give a text, for it is part of the identity",
    "dataclass_type": "it takes a name and a sha256",
    "missing": "give it",
    "unexpected_keyword_argument": "there is no such field, leave it out",
}


def _refusal(error: pydantic.ValidationError, names: list[str]) -> InputError | NonFiniteError:
    """Describe in one sentence the first wrong field."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):  # raised by `Record.__post_init__`
        return cause
    field, *inside = first["loc"]
    name = ".".join(map(str, (names[field] if isinstance(field, int) else field, *inside)))
    value = _shown(first["input"])
    if first["type"] == "finite_number":
        return NonFiniteError(f"{name} is {value}: only finite numbers are recorded")
    found = "missing" if first["type"] == "missing" else value
    advice = cause or _ADVICE.get(first["type"]) or first["msg"].replace("Input", "it", 1)
    return InputError(f"{name} is {found}: {advice}")


def _shown(value: object) -> str:
    """A value in a message, which stays one readable sentence."""
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _strings(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Source):
        yield value.name
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _check_plain(config: Mapping[str, Any]) -> None:
    """Check that a table can hold a configuration: how deep it is, and its whole numbers."""
    level: list[Any] = [config]
    for _ in range(_DEEPEST + 1):
        inside: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                inside += value.values()
            elif isinstance(value, list | tuple):
                inside += value
            elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
                raise InputError("the configuration holds too large a number")
        level = inside
    if level:
        raise InputError(f"the configuration is nested deeper than {_DEEPEST} levels")


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error}): repair or remove the line") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{repeated!r} stands there twice: keep one of the two")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise NonFiniteError(f"it holds {name}: only finite numbers are recorded")
