"""Claims on the command line: list them, show one, or compute one again and say its verdict.

A program sees the verdict in the exit code of `verify`, see there.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

import lla
from lla.errors import LIBRARY_ERRORS, InputError, first_line, unknown_name
from lla.files import check_folder
from lla.report.text import plain_table
from paper_tables.engine import answer, claims, machine, store
from paper_tables.engine.answer import Answer
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.claims import Judgement, slug
from paper_tables.engine.exhibit import ClaimScope, Exhibit
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.progress import Lines, Progress
from paper_tables.engine.records import Record
from paper_tables.engine.suite import Suite, checkout, failed_with
from paper_tables.exhibits import find
from paper_tables.paper import Claim

EXIT = {"fails": 1, "undecided": 3, "holds": 0, "not_run": 4}  # the first that occurs counts

BROKEN = 70  # exit code of an error of the program itself, which is no verdict

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List claims, show one, or compute one again."
)
Name = Annotated[str, typer.Argument(metavar="ID[:SCOPE]", help="A claim, in one scope or all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Results = Annotated[Path | None, typer.Option(help="Folder of results (default: results).")]


@app.command("list")
def list_claims(results: Results = None, as_json: AsJson = False) -> None:
    """List all claims with their verdicts."""
    found = answer.read(results or checkout() / "results").claims
    if as_json:
        fields = ("slug", "verdict", "fidelity", "statement", "source")
        typer.echo(json.dumps([{name: getattr(each, name) for name in fields} for each in found]))
        return
    rows = [(each.slug, each.verdict, each.fidelity or "", each.statement) for each in found]
    typer.echo(plain_table(rows, ("claim", "verdict", "fidelity", "statement")))


@app.command()
def show(name: Name, results: Results = None, as_json: AsJson = False) -> None:
    """Show what the published records say of a claim, and what it took to compute them."""
    wanted = _slugs(name, find())
    known = answer.read(results or checkout() / "results").claims
    found = [each for each in known if each.slug in wanted]
    if not found:
        raise InputError(f"{answer.FILE} has no {name}: make it anew with python -m paper_tables")
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(each) for each in found]))
        return
    typer.echo("\n\n".join(map(_described, found)))


@app.command()
def verify(
    name: Name,
    profile: Annotated[str, typer.Option(help="How much to run: quick or paper.")] = "quick",
    real_data: Annotated[bool, typer.Option(help="Train on real data that are found.")] = False,
    data_root: Annotated[Path | None, typer.Option(help="Folder of data sets.")] = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="Folder for finished cells (default: .lla/claims).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute what a claim needs, and say the verdict on that alone; the exit code is the verdict.

    0 holds, 1 fails, 3 undecided, 4 nothing could run. With several scopes it is 1 if any fails,
    else 3 if any is undecided, else 0 if any holds. 2 is a wrong command, 70 an error of the
    program.

    What was finished by this code is not computed again. Published records are not touched.
    """
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    exhibits = find()
    wanted = _slugs(name, exhibits)
    work = work_dir or checkout() / ".lla" / "claims"
    settings = Settings(
        profile=adjusted(PROFILES[profile], real=real_data or None),
        results=work / "results",
        work=work,
        data_root=data_root,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    for folder in (settings.work, settings.results):
        check_folder(folder)
    begin = time.perf_counter()
    progress = Lines(lambda text: typer.echo(text, nl=False, err=True))
    found = [verified(each, exhibits, settings, progress) for each in wanted]
    seconds = time.perf_counter() - begin
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(each) for each in answer.answers(found).claims]))
    else:
        for one in found:
            typer.echo(f"{one.slug}: {one.verdict}{_fidelity(one)}: {one.note or 'no note'}")
        typer.echo(f"{len(found)} scope{'s' * (len(found) > 1)} in {seconds:.0f} s")
    occurring = {one.verdict for one in found}
    raise typer.Exit(next(code for verdict, code in EXIT.items() if verdict in occurring))


def verified(
    wanted: str, exhibits: Sequence[Exhibit], settings: Settings, progress: Progress
) -> Judgement:
    """Compute the cells that a claim rests on, and judge it by them alone.

    Args:
        wanted: a slug.
        exhibits: all of them.
        settings: of the session.
        progress: shows the cells.
    """
    work, claim, scope = _known(exhibits)[wanted]
    key = ClaimScope(claim.id, scope)
    missing = claim.scopes[scope]
    owner = next((exhibit for exhibit in exhibits if key in exhibit.claims), None)
    if missing is not None or owner is None:
        reason = missing or "no exhibit judges it"
        return Judgement(claim, scope, "not_run", note=reason, work=work)
    suite = Suite((), settings, progress, lla.tune_allocator(), pages="never")
    cells = _needed(owner, claim, scope, exhibits, settings)
    suite.plan(cells)
    minutes = sum(cell.seconds for cell in cells if cell.compute) / 60
    progress.say(f"{wanted}: {len(cells)} cells, about {minutes:.0f} min")
    records = [record for cell in cells for record in _run(cell, suite)]
    judgement = claims.judged(claim, scope, owner.claims[key], records)
    if judgement.verdict == "not_run" and not judgement.records:
        absent = list(dict.fromkeys(str(r.reason) for r in records if r.value is None))
        if absent:
            judgement = dataclasses.replace(judgement, note="; ".join(absent))
    return dataclasses.replace(judgement, work=work)


def _run(cell: Cell, suite: Suite) -> list[Record]:
    """The records of a cell, not those that other code has left; if it fails, some that say so."""
    finished = store.finished(cell, suite.settings.work) or ()
    if any(record.code_version != machine.code_version() for record in finished):
        store.forget(cell, suite.settings.work)
        store.forget(cell, suite.settings.results)
    try:
        return suite.run(cell)
    except (*LIBRARY_ERRORS, AssertionError) as error:
        suite.progress.say(f"{cell.name}: {first_line(error)}")
        return cell.absent(failed_with(error)).not_run()


def _needed(
    owner: Exhibit, claim: Claim, scope: str, exhibits: Sequence[Exhibit], settings: Settings
) -> list[Cell]:
    """The cells that decide a claim: those that the published verdict rests on, else the scope's.

    The published records say which places a predicate looks at. Where they have none, the cells of
    the exhibit are taken: those of the row that the scope names, or all.
    """
    published = store.published(checkout() / "results")
    predicate = owner.claims[ClaimScope(claim.id, scope)]
    rests_on = claims.judged(claim, scope, predicate, published).records
    cells = {cell.place: cell for exhibit in exhibits for cell in exhibit.cells(settings)}
    places = {(r.table, r.row, r.column) for r in rests_on}
    chosen = [cell for cell in cells.values() if cell.place[:3] in places]
    if not chosen:
        own = {cell.place for cell in owner.cells(settings)}
        tables = owner.sources or (owner.name,)
        chosen = [c for c in cells.values() if c.place in own or c.table in tables]
        chosen = [cell for cell in chosen if cell.row == scope] or chosen
    return sorted(chosen, key=lambda cell: cell.stage)


def _known(exhibits: Sequence[Exhibit]) -> dict[str, tuple[str, Claim, str]]:
    """Work, claim and scope by slug."""
    return {
        slug(claim.id, scope): (work, claim, scope)
        for work, claim in claims.stated(exhibits)
        for scope in claim.scopes
    }


def _slugs(name: str, exhibits: Sequence[Exhibit]) -> list[str]:
    """The scopes of ID, or the one of ID:SCOPE.

    Raises:
        InputError: there is none.
    """
    known = _known(exhibits)
    if ":" in name:
        if name not in known:
            raise unknown_name("claim in a scope", name, known)
        return [name]
    found = [each for each in known if each.partition(":")[0] == name]
    if not found:
        raise unknown_name("claim", name, dict.fromkeys(each.partition(":")[0] for each in known))
    return found


def _fidelity(one: Judgement | Answer) -> str:
    return f" [{one.fidelity}]" if one.fidelity else ""


def _described(one: Answer) -> str:
    lines = [
        f"{one.slug}: {one.verdict}{_fidelity(one)}",
        f"claim: {one.statement} ({one.source}, {one.where})",
        f"note: {one.note}",
    ]
    shown = [
        f"  {each.cell} {each.metric}: {each.measured:.4g}"
        + (f" ± {each.stderr:.2g}" if each.stderr is not None else "")
        + (f" (published: {each.published})" if each.published else "")
        for each in one.evidence[:20]
        if each.measured is not None
    ]
    if shown:
        rest = len(one.evidence) - len(shown)
        lines += ["evidence:", *shown, *([f"  and {rest} more"] if rest > 0 else [])]
    if one.cost:
        lines.append(
            f"cost: {one.cost.minutes:g} minutes, {one.cost.memory_mib:.0f} MiB, data "
            f"{', '.join(one.cost.data) or 'none'}, on {'; '.join(one.cost.hardware)}"
        )
    lines.append(f"again: {one.command}")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        app(prog_name="lla claims")
    except (*LIBRARY_ERRORS, OSError) as error:
        typer.echo(f"Error: {first_line(error)}", err=True)
        sys.exit(2)
    except Exception:  # else Python would end with 1, which is a verdict
        traceback.print_exc()
        sys.exit(BROKEN)
