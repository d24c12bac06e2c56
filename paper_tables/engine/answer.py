"""`claims.json`: the verdict on every claim in every scope, for programs.

A version of its schema stands in it, and `claims.schema.json` beside it has the JSON Schema. A
change of names or meanings raises the version.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pydantic
from pydantic.dataclasses import dataclass

from lla.errors import InputError
from lla.files import atomic_write, sha256_of_bytes
from paper_tables.engine.claims import Judgement
from paper_tables.engine.records import Record, seconds_of

FILE = "claims.json"
SCHEMA = "claims.schema.json"
VERSION: Literal[1] = 1
MIB = 2**20


@dataclass(frozen=True)
class Evidence:
    """A record that a verdict rests on.

    Attributes:
        cell: "table2/lenet/random/eval".
        metric: what was measured.
        measured: its value; None if it was not run.
        stderr: its standard error, if it has one.
        published: the value that is printed, as printed.
        record: first 16 digits of the sha256 of the record's line in `records/`.
    """

    cell: str
    metric: str
    measured: float | None
    stderr: float | None
    published: str | None
    record: str


@dataclass(frozen=True)
class Cost:
    """What it took to compute the evidence.

    Attributes:
        minutes: of all of its cells.
        memory_mib: the largest peak of a cell, in MiB.
        data: names of what was read.
        hardware: devices and threads.
    """

    minutes: float
    memory_mib: float
    data: tuple[str, ...]
    hardware: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The verdict on a claim in one scope.

    Attributes:
        slug: its name.
        claim: id of the claim.
        scope: where it is judged.
        statement: the claim in words.
        source: the work that makes it.
        where: section, table or figure.
        published: the printed value, where a single printed value decides.
        measured: ours beside it.
        stderr: of `measured`.
        verdict: "holds", "fails", "undecided" or "not_run".
        fidelity: of the least faithful evidence; None without any.
        note: the numbers in words, or why it was not run.
        command: computes it again.
        cost: None without evidence.
        evidence: what the verdict rests on.
    """

    slug: str
    claim: str
    scope: str
    statement: str
    source: str
    where: str
    published: str | None
    measured: float | None
    stderr: float | None
    verdict: Literal["holds", "fails", "undecided", "not_run"]
    fidelity: str | None
    note: str
    command: str
    cost: Cost | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Answers:
    """The content of `claims.json`."""

    version: Literal[1]
    claims: tuple[Answer, ...]


_ADAPTER = pydantic.TypeAdapter(Answers)


def answers(judgements: Sequence[Judgement]) -> Answers:
    """The content of the file."""
    return Answers(VERSION, tuple(map(_answer, judgements)))


def write(judgements: Sequence[Judgement], results: Path) -> None:
    """Write `claims.json` and its schema into the folder of results."""
    lines = (json.dumps(asdict(each), ensure_ascii=False) for each in answers(judgements).claims)
    # a line for each claim, so that a change is seen where it is
    text = f'{{"version": {VERSION}, "claims": [\n' + ",\n".join(lines) + "\n]}\n"
    atomic_write(results / FILE, text)
    atomic_write(results / SCHEMA, json.dumps(_ADAPTER.json_schema(), indent=1) + "\n")


def read(results: Path) -> Answers:
    """Read `claims.json`.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is of another version of the schema, or broken.
    """
    path = results / FILE
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise InputError(
            f"{path}: {where}: {first['msg']}: make it anew with python -m paper_tables"
        ) from None


def _answer(judgement: Judgement) -> Answer:
    evidence = tuple(map(_evidence, judgement.records))
    printed = [each for each in evidence if each.published is not None]
    single = printed[0] if len(printed) == 1 else evidence[0] if len(evidence) == 1 else None
    return Answer(
        slug=judgement.slug,
        claim=judgement.claim.id,
        scope=judgement.scope,
        statement=judgement.claim.statement,
        source=judgement.work,
        where=judgement.claim.where,
        published=single.published if single else None,
        measured=single.measured if single else None,
        stderr=single.stderr if single else None,
        verdict=judgement.verdict,
        fidelity=judgement.fidelity,
        note=judgement.note,
        command=f"lla claims verify {judgement.slug}",
        cost=cost(judgement.records),
        evidence=evidence,
    )


def _evidence(record: Record) -> Evidence:
    return Evidence(
        cell=f"{record.table}/{record.row}/{record.column}",
        metric=record.metric,
        measured=record.value,
        stderr=record.stderr,
        published=record.paper_value,
        record=sha256_of_bytes(record.to_json())[:16],
    )


def cost(records: Sequence[Record]) -> Cost | None:
    """What it took to compute some records; None if there are none that were computed."""
    run = [record for record in records if record.value is not None]
    if not run:
        return None
    machines = {f"{r.device}, {r.threads} threads" for r in run if r.device}
    return Cost(
        minutes=round(sum(seconds_of(run).values()) / 60, 2),
        memory_mib=round(max(r.peak_memory or 0 for r in run) / MIB, 1),
        data=tuple(sorted({r.data.name for r in run if r.data})),
        hardware=tuple(sorted(machines)),
    )
