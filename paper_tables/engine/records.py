"""Records: one JSON line a number, with everything needed to judge and to repeat it.

A file of records is replaced as a whole, under a lock, so that it is valid at every moment: a
process killed while it writes leaves the old file or the new one, never half of either.
Tables, figures and verdicts on claims are made from records alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import filelock
import psutil
import torch

import lla
from lla._version import __version__
from lla.errors import InputError, NonFiniteError

__all__ = [
    "FIDELITIES",
    "VERDICTS",
    "Record",
    "Source",
    "atomic_write",
    "code_version",
    "config_hash",
    "environment",
    "peak_memory",
    "read_records",
    "reset_peak_memory",
    "update_records",
    "write_records",
]

VERDICTS = ("reproduced", "close", "differs", "not_run")
FIDELITIES = ("paper", "reduced", "substitute")
STDERR_KINDS = ("probes", "batches", "examples", "planes")

# A path that begins at a root, anywhere in a text; `train/random` and `https://` are none.
_ABSOLUTE_PATH = re.compile(r"""(?:^|[\s'"(=:,])(?:/[\w.~-]|~/|[A-Za-z]:[\\/]|\\\\\w)|file://""")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Source:
    """A named input or output and the sha256 of its content.

    Raises:
        InputError: the name is empty, or the digest is not 64 lower-case hexadecimal digits.
    """

    name: str
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"a source has the name {self.name!r}: give a text")
        if not _is_hex(self.sha256, 64):
            raise InputError(
                f"source {self.name!r} has the sha256 {self.sha256!r}: give its 64 hex digits"
            )


@dataclass(frozen=True, kw_only=True)
class Record:
    """One number of a table, or the reason why there is none.

    `(table, row, column, metric, config_hash)` is its identity. Two records are comparable when
    their `config` is equal: it holds everything that determines the value and nothing else.

    Raises:
        NonFiniteError: a number is NaN or infinite.
        InputError: a field has the wrong type or an unknown word, contradicts another field, or
            holds an absolute path (records are published: they say nothing of the machine).
    """

    table: str  # "table2"
    row: str  # "lenet"
    column: str  # "random/eval"
    metric: str  # "kh1"
    value: float | None  # None exactly when not run
    stderr: float | None = None
    n: int | None = None  # samples behind the stderr
    stderr_kind: str | None = None  # one of STDERR_KINDS
    paper_value: str | None = None  # as printed, "0.37": its digits are part of the verdict
    verdict: str | None = None  # one of VERDICTS; None: nothing to judge, or a substitute
    fidelity: str | None = None  # one of FIDELITIES; None only when not run
    reason: str | None = None  # why it was not run
    note: str | None = None

    seed: int | None = None
    dtype: str | None = None
    m: int | None = None  # Lanczos steps
    probes: int | None = None
    batches: int | None = None
    batch_size: int | None = None
    reading: str | None = None  # "product" | "density"
    legacy: bool | None = None
    route: str | None = None  # how the Hessian products were computed
    data: Source | None = None
    batch_sha256: str | None = None  # the very examples drawn from `data`
    weights: Source | None = None
    artifact: Source | None = None  # a file beside the records, named relative to their folder
    profile: str | None = None

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config_hash: str = ""  # filled in from config when left empty

    code_version: str | None = None
    torch: str | None = None
    threads: int | None = None
    device: str | None = None
    allocator_tuned: bool | None = None
    seconds: float | None = None
    matvecs: int | None = None
    peak_memory: int | None = None  # bytes

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, str(field.type), getattr(self, field.name))
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
        for name in ("table", "row", "column", "metric"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty: it is part of a record's identity")
        _check_word("verdict", self.verdict, VERDICTS)
        _check_word("fidelity", self.fidelity, FIDELITIES)
        _check_word("stderr_kind", self.stderr_kind, STDERR_KINDS)
        if self.batch_sha256 is not None and not _is_hex(self.batch_sha256, 64):
            raise InputError(f"batch_sha256 is {self.batch_sha256!r}: give its 64 hex digits")
        self._check_consistency()
        for text in _strings(dataclasses.asdict(self)):
            if _ABSOLUTE_PATH.search(text):
                raise InputError(
                    f"a record holds the path {text!r}: records are published, name files "
                    "relative to the folder of results"
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
    def _json(self) -> str:  # made once: a file is written again with each record that is added
        return json.dumps(dataclasses.asdict(self), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read one line of JSON.

        The same line gives the same object, so its config is not to be written to.

        Raises:
            InputError: the line is not a valid record.
            NonFiniteError: it holds NaN or an infinity.
        """
        return _from_json(line)


@functools.lru_cache(maxsize=2**14)  # a file is read, and all of it checked, again and again
def _from_json(line: str) -> Record:
    try:
        fields = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON ({error}): repair or remove the line") from None
    if not isinstance(fields, dict):
        raise InputError(f"a record is a JSON object, not {type(fields).__name__}")
    known = {field.name for field in dataclasses.fields(Record)}
    if set(fields) != known:
        wrong = ", ".join(sorted(set(fields) ^ known))
        raise InputError(f"unknown or missing fields: {wrong}")
    for name in ("data", "weights", "artifact"):
        if fields[name] is not None:
            try:
                fields[name] = Source(**fields[name])
            except TypeError:
                raise InputError(
                    f"{name} is {fields[name]!r}: it takes a name and a sha256"
                ) from None
    if not fields["config_hash"]:
        raise InputError("config_hash is empty: every written record has one")
    return Record(**fields)


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
    except (TypeError, ValueError) as error:
        raise InputError(f"the configuration cannot be hashed: {error}") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        try:
            record = Record.from_json(line)
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(".lock")):
        old = read_records(path) if path.exists() else []
        new = function(old)
        # Unchanged records are not written again: a reader's view of the file stays still.
        if list(new) != old or not path.exists():
            _replace(path, "".join(record.to_json() + "\n" for record in new).encode())


def atomic_write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that a reader sees all of it or none, even if the writer is killed.

    Args:
        path: the file; its folder is made if it is missing.
        content: text (written as UTF-8) or bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(".lock")):
        _replace(path, content.encode() if isinstance(content, str) else content)


@functools.cache
def code_version() -> str:
    """The version of lla and the first 12 digits of a sha256 over its source files.

    The digest names the code that ran, also when it was edited after its last commit.
    """
    root = Path(lla.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def environment(device: str | torch.device = "cpu") -> dict[str, Any]:
    """What a record says of the software and the device.

    Args:
        device: where the cell is computed.

    Returns:
        The fields `code_version`, `torch`, `threads` and `device` of a record.
    """
    device = torch.device(device)
    name = device.type
    if device.type == "cuda":
        name = f"cuda ({torch.cuda.get_device_name(device)})"
    return {
        "code_version": code_version(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": name,
    }


def reset_peak_memory(device: str | torch.device = "cpu") -> None:
    """Start a new measurement of `peak_memory`, where the system lets a process do so.

    Linux does for a process, CUDA for a device; elsewhere the peak of the whole run remains.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # not Linux, or not allowed in this container
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str | torch.device = "cpu") -> int:
    """The most memory held since `reset_peak_memory`, or since the start.

    Args:
        device: on CUDA, what torch allocated there; else the resident memory of this process.

    Returns:
        Bytes.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        info = psutil.Process().memory_info()
        return int(getattr(info, "peak_wset", info.rss))


def _merge(old: list[Record], new: list[Record]) -> list[Record]:
    records = {record.key: record for record in old}
    records.update((record.key, record) for record in new)
    return list(records.values())


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file, then rename. The caller holds the lock, so one name is enough."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # the rename itself is on disk only once its folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Source": (Source,),
    "Mapping[str, Any]": (Mapping,),
}


def _check_type(name: str, annotation: str, value: object) -> None:
    base, _, optional = annotation.partition(" | ")
    if value is None and optional:
        return
    wrong_bool = isinstance(value, bool) and base != "bool"  # bool is an int to Python
    if wrong_bool or not isinstance(value, _TYPES[base]):
        raise InputError(f"{name} is {value!r}: it takes {annotation}")
    if isinstance(value, float) and not math.isfinite(value):
        raise NonFiniteError(f"{name} is {value}: only finite numbers are recorded")


def _check_word(name: str, value: str | None, words: tuple[str, ...]) -> None:
    if value is not None and value not in words:
        raise InputError(f"{name} is {value!r}: it takes one of {', '.join(words)}")


def _is_hex(value: object, length: int) -> bool:
    return isinstance(value, str) and len(value) == length and _HEX.fullmatch(value) is not None


def _strings(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _refuse_constant(name: str) -> NoReturn:
    raise NonFiniteError(f"it holds {name}: only finite numbers are recorded")
