"""Several workers on one folder: `--shard i/n`, over tiny cells."""

import dataclasses
import itertools
import os
import random
import re
import signal
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from lla.errors import InputError
from paper_tables import colleagues, submit, workers
from paper_tables.engine import leases, store
from paper_tables.engine.leases import Leases
from paper_tables.engine.records import read_records
from paper_tables.engine.shard import Shard

planted_suites = pytest.importorskip("tests.paper_tables.planted_suites")
ALL = planted_suites.ALL
WORKERS = 4
SECOND = "worker-2-of-2.begun"
KILLS = 50 if os.environ.get("LLA_LONG") else 10


def wait_for(what):
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start(runs, index, count=WORKERS, *options):
    output = runs.folder / f"output-{index}"
    return runs.start_suite("--shard", f"{index}/{count}", *options, output=output)


def finish(runs, pid, index):
    return runs.finish(pid, runs.folder / f"output-{index}")


def contents(path):
    """Records without what differs between two runs."""
    return {
        r.key: {k: v for k, v in vars(r).items() if k not in ("seconds", "peak_memory", "_json")}
        for r in read_records(path)
    }


@pytest.fixture
def undisturbed(server, tmp_path_factory):
    """The records of one session without workers."""
    alone = planted_suites.Runs(server, tmp_path_factory.mktemp("alone"))
    assert alone.run("-q")[0] == 0
    return contents(alone.journal), contents(alone.published)


def test_workers_compute_each_cell_once(runs, undisturbed):
    runs.turn(seconds=0.2)
    pids = [start(runs, i) for i in range(1, WORKERS + 1)]
    ends = [finish(runs, pid, i) for i, pid in enumerate(pids, 1)]
    assert [code for code, _ in ends] == [0] * WORKERS, ends
    assert sorted(runs.computed()) == sorted([*ALL, "step"])
    assert (contents(runs.journal), contents(runs.published)) == undisturbed
    written = [line for _, end in ends for line in end.splitlines() if "claims and report" in line]
    assert any(line.endswith("written to results/") for line in written)
    assert not list((runs.folder / "results" / "leases").glob("*.lease"))
    assert "have not begun" not in "".join(end for _, end in ends)
    assert [("1 passed" in end or "7 passed" in end) for _, end in ends].count(True) == 1, (
        "what is no cell runs at the first worker only"
    )


@pytest.mark.hard_use(
    "Four workers share a folder and are killed at random moments: no cell is lost or done twice, "
    "and the end is that of one worker"
)
def test_killed_workers_lose_no_cell_and_do_none_twice(runs, undisturbed, record_property):
    generator = random.Random(2)
    kills, lost, twice, rounds, begun = 0, 0, 0, 0, []
    while kills < KILLS:
        rounds += 1
        runs.clear()
        runs.turn(seconds=0.1)
        alive = {i: start(runs, i) for i in range(1, WORKERS + 1)}
        done, before = set(), 0
        while kills < KILLS and done != ALL:
            time.sleep(generator.uniform(0, 0.5))
            index = generator.choice(list(alive))
            os.kill(alive[index], signal.SIGKILL)
            runs.ask("wait", alive[index])  # it may not have begun to write its output
            kills += 1
            now = {r.column for r in read_records(runs.journal)} if runs.journal.exists() else set()
            lost += len(done - now)
            done = now
            alive[index] = start(runs, index)
            before += 1
        ends = [finish(runs, pid, i) for i, pid in alive.items()]
        assert [code for code, _ in ends] == [0] * WORKERS, ends
        assert (contents(runs.journal), contents(runs.published)) == undisturbed
        computed = [name for name in runs.computed() if name != "step"]
        twice += max(0, len(computed) - len(ALL) - before)  # a kill repeats one cell at most
        begun.append(len(computed))
    assert lost == twice == 0
    record_property(
        "measured", f"{kills} kills in {rounds} rounds, {lost} cells lost, {twice} done twice"
    )


def test_a_worker_that_begins_touches_no_lease_of_another(tmp_path):
    """It would hold that lease for a moment, in which the other worker could not begin."""
    suite = SimpleNamespace(leases=Leases(tmp_path), shard=Shard(2, 2), settings=None)
    with Leases(tmp_path).worker(Shard(1, 2)):
        assert len(Leases(tmp_path).at_work()) == 1
        suite.leases.at_work = pytest.fail
        workers.check(suite, None)


def test_a_cell_that_fails_is_a_record_and_no_end(runs):
    runs.turn(fails="c2", seconds=4.0)  # so that both have begun before it fails
    pids = [start(runs, i, 2) for i in (1, 2)]
    ends = [finish(runs, pid, i) for i, pid in enumerate(pids, 1)]
    assert sorted(code for code, _ in ends) == [0, 1], "it fails at one worker"
    assert runs.computed().count("c2") == 1
    (record,) = [r for r in read_records(runs.published) if r.column == "c2"]
    assert record.verdict == "not_run"
    assert record.reason == (
        "it failed with ValueError, 'this cell cannot be': mend that and run it again"
    )
    assert {r.column for r in read_records(runs.journal)} == ALL - {"c2"}
    runs.turn()
    assert runs.run("-q")[0] == 0, "the next session tries again"
    (record,) = [r for r in read_records(runs.published) if r.column == "c2"]
    assert record.value == 0.97


def test_a_failure_takes_no_value_away_and_names_no_place(runs):
    assert runs.run("-k", "c1")[0] == 0
    before = runs.published.read_text()
    runs.turn(fails="c1")
    assert runs.run("-k", "c1", "--recompute")[0] == 1
    assert runs.published.read_text() == before
    assert store.published(runs.folder / "results")


@pytest.mark.parametrize("given", ["5/4", "0/4", "1", "a/b", "-1/4", "1/4/2"])
def test_a_shard_that_cannot_be(runs, given):
    code, output = runs.run(f"--shard={given}")
    assert code == 4, output
    assert f"--shard {given}: give i/n, worker i of n, such as 1/4 to 4/4" in output
    assert runs.computed() == []


def test_all_workers_cannot_recompute(runs):
    code, output = runs.run("--shard=1/2", "--recompute")
    assert code == 4
    assert "each worker would compute all cells" in output


@pytest.fixture
def busy(runs):
    """A worker that computes for long."""
    runs.turn(seconds=20)
    pid = start(runs, 1, 2)
    deadline = time.monotonic() + 30
    while not runs.computed():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield pid
    os.kill(pid, signal.SIGKILL)
    runs.ask("wait", pid)


def test_a_worker_that_lives_is_not_joined_by_its_double_or_by_others_unasked(runs, busy):
    code, output = runs.run("--shard", "1/2")
    assert code == 4
    assert re.search(rf"worker 1 of 2 is at work in .*results already \(process {busy} on", output)
    code, output = runs.run()
    assert code == 4
    assert re.search(rf"worker 1 of 2 \(process {busy} on .*\) computes cells in .*results", output)
    assert "join it with --shard" in output
    assert len(runs.computed()) == 1


def test_folders_that_are_not_shared(runs, tmp_path):
    code, output = runs.run("--shard", "2/2", "--submission", "abc")
    assert code == 4
    assert "are not the folders of whoever started this worker" in output
    Leases(runs.folder / "results").mark("abc", runs.folder / "work")
    code, output = runs.run("--shard", "2/2", "--submission", "abc")
    assert code == 0, output
    assert f"have not begun in {runs.folder / 'results'}: 1 of 2. One that" in output


def test_a_lease_without_touch_runs_out_and_one_with_touch_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "LEASE", 0.6)
    monkeypatch.setattr(leases, "HEARTBEAT", 0.1)
    with Leases(tmp_path).held("cell") as mine:
        assert mine
        path = tmp_path / "leases" / "cell.lease"
        other = Leases(tmp_path)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            with other.held("cell") as theirs:
                assert not theirs, "its holder is alive"
            time.sleep(0.05)
    assert not path.exists()
    # as a worker on another machine leaves it that has died
    text = "filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=ab\nduration=0.6\n"
    path.write_text(text)
    begun = time.monotonic()
    with other.held("cell") as mine:
        assert not mine
    with other.held("cell", wait=True):
        assert 0.5 < time.monotonic() - begun < 5


def test_a_lease_of_a_worker_that_was_killed_before_it_wrote_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "POLL", 0.05)
    monkeypatch.setattr(leases, "UNWRITTEN", 0.3)
    path = tmp_path / leases.FOLDER / f"cell{leases.SUFFIX}"
    path.parent.mkdir()
    path.touch()
    worker, begin = Leases(tmp_path), time.monotonic()
    with worker.held("cell") as mine:
        assert not mine, "its holder may be about to write"
    with worker.held("cell", wait=True) as mine:
        assert mine
        assert time.monotonic() - begin >= 0.3
        time.sleep(0.4)
        with Leases(tmp_path).held("cell") as other:
            assert not other, "a lease with a name stays"
    assert not list(path.parent.iterdir())


def test_what_is_written_while_a_lease_is_removed_is_put_back(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "UNWRITTEN", 0.0)
    path = tmp_path / leases.FOLDER / f"cell{leases.SUFFIX}"
    path.parent.mkdir()
    path.touch()
    worker, rename = Leases(tmp_path), leases.Path.rename

    def written_first(self, target):
        self.write_text("a name")
        return rename(self, target)

    worker._remove_unwritten(path)
    monkeypatch.setattr(leases.Path, "rename", written_first)
    worker._remove_unwritten(path)
    assert [each.read_text() for each in path.parent.iterdir()] == ["a name"]
    assert path.exists()


def test_a_session_with_workers_of_its_own_computes_each_cell_once(runs, undisturbed):
    runs.turn(seconds=0.5, begun=SECOND)
    code, output = runs.run("-q", "--workers=2")
    assert code == 0, output
    other = (runs.folder / "work" / "workers" / "2.log").read_text()
    assert sorted(runs.computed()) == sorted([*ALL, "step"])
    assert re.search(r"c\d .*done in", output), "the first one computes"
    assert re.search(r"c\d .*done in", other), "and so does the second"
    values = {record.key: record.value for record in read_records(runs.published)}
    assert values == {key: facts["value"] for key, facts in undisturbed[1].items()}
    threads = {record.threads for record in read_records(runs.journal)}
    assert threads == {max(1, colleagues.cores() // 2)}, "they divide the CPUs"
    assert "claims and report" in output
    assert "claims and report" not in other, "one of them writes the pages"
    assert "c5 finished before" in output, "the output of the first has all cells"


def test_a_failure_at_another_worker_is_one_of_the_session(runs):
    runs.turn(fails="c0", seconds=0.5, begun=SECOND)  # the last cell, so the second worker's
    code, output = runs.run("-q", "--workers=2")
    assert code == 1, output
    assert runs.computed().count("c0") == 1
    log = runs.folder / "work" / "workers" / "2.log"
    assert f"worker 2 of 2 ended with code 1: see {log}" in output
    assert "ValueError: this cell cannot be" in log.read_text()
    assert "1 failed" in output
    pages = runs.folder / "results"
    (record,) = [r for r in read_records(runs.published) if r.column == "c0"]
    assert "this cell cannot be" in record.reason
    newest = max(path.stat().st_mtime for path in (pages / "records").iterdir())
    assert (pages / "claims.md").stat().st_mtime >= newest, "pages are written after it"


def test_workers_end_with_the_session_that_started_them(runs):
    runs.turn(seconds=3.0, begun=SECOND)
    pid = runs.start_suite("-q", "--workers=2")
    wait_for(lambda: len(runs.computed()) == 2)  # one each
    (other,) = psutil.Process(pid).children()
    os.kill(pid, signal.SIGKILL)
    runs.ask("wait", pid)
    other.wait(10)
    assert len(runs.computed()) == 2
    runs.turn()
    assert runs.run("-q")[0] == 0, "the next session takes over at once"


def test_the_cells_of_a_worker_that_is_killed_are_taken_over_at_once(runs):
    runs.turn(seconds=2.0, begun=SECOND)
    pid = runs.start_suite("-q", "--workers=2")
    wait_for(lambda: len(runs.computed()) == 2)
    (other,) = psutil.Process(pid).children()
    begin = time.monotonic()
    other.kill()
    code, output = runs.finish(pid)
    assert time.monotonic() - begin < leases.LEASE / 2
    assert code == 0, "nothing is missing"
    assert "worker 2 of 2 ended with code -9" in output
    assert {record.column for record in read_records(runs.journal)} == ALL


def test_a_failure_at_another_worker_stops_a_session_that_is_to_stop(runs):
    runs.turn(fails="c4", seconds=5.0, begun=SECOND)  # the first of the second worker
    code, output = runs.run("-q", "--workers=2", "-x")
    assert code == 1, output
    assert "another worker has failed" in output
    assert sorted(runs.computed()) == ["c1", "c4"]


def test_a_session_that_stops_early_stops_its_workers(runs):
    runs.turn(fails="c1", seconds=5.0)  # it fails at once
    begin = time.monotonic()
    code, output = runs.run("-q", "--workers=2", "-x")
    assert code == 1, output
    assert time.monotonic() - begin < 15
    assert runs.computed() == ["c1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--workers=0"], "0: give a whole number from 1"),
        (["--workers=many"], "many: give a whole number from 1"),
        (["--workers=2", "--shard=1/2"], "--shard names one worker: leave it or --workers out"),
        (["--workers=2", "-n2"], "-n starts workers too: leave it or --workers out"),
        (["--workers=2", "--recompute"], "with --recompute each worker would compute all cells"),
        (["--workers=2", "-o", "addopts=", "--lf"], "with --lf and --stepwise each worker"),
    ],
)
def test_workers_that_cannot_be(runs, given, message):
    code, output = runs.run(*given)
    assert code == 4, output
    assert message in output
    assert "--workers 2 cannot be: " in output or "give a whole number" in message
    assert runs.computed() == []


def test_how_many_workers_auto_is(make_cell, monkeypatch):
    def number(sizes, cores=8, free=20, asked="auto", device="cpu"):
        monkeypatch.setattr(colleagues, "cores", lambda: cores)
        monkeypatch.setattr(colleagues, "available_memory", lambda device: free * 2**30)
        cells = [
            dataclasses.replace(make_cell(column=f"c{i}"), memory=size * 2**30)
            for i, size in enumerate(sizes)
        ]
        return colleagues.number(asked, cells, torch.device(device))

    assert number([1] * 9) == 4
    assert number([1] * 9, cores=2) == 2
    assert number([1] * 3) == 3, "no more than cells"
    assert number([]) == 1
    assert number([1] * 9, free=7) == 3, "a process takes 1 GiB beside its cell"
    assert number([12, 1, 1, 1], free=16) == 2, "the largest may run side by side"
    assert number([30, 1], free=8) == 1
    assert number([1] * 9, device="cuda") == 1
    assert number([1] * 9, asked="6") == 6
    assert number([1] * 2, asked="6") == 2


def test_auto_is_one_where_there_can_be_no_others(runs):
    assert runs.run("-q")[0] == 0
    code, output = runs.run("-q", "--workers=auto", "--recompute")
    assert code == 0, output
    assert " workers; " not in output
    assert len(runs.computed()) == 2 * len([*ALL, "step"])


def test_the_parts_of_workers_are_all_items_and_take_alike():
    items = list(range(50))
    costs = [1 + (7 * i) % 11 for i in items]
    for count in (1, 2, 3, 7, 60):
        orders = [Shard(i, count).ordered(items, costs.__getitem__) for i in range(1, count + 1)]
        assert all(sorted(order) == items for order in orders)
        share = sum(costs) / count
        first = [order[0] for order in orders[: min(count, 7)]]
        if count <= 7:
            assert len(set(first)) == count, "each begins elsewhere"
            for order, following in itertools.pairwise(orders):
                own = items[order[0] : following[0]]
                assert order[: len(own)] == own
                assert abs(sum(costs[i] for i in own) - share) <= max(costs)


def test_no_worker_of_zero():
    with pytest.raises(InputError, match="give i/n"):
        Shard.of("0/0")


def test_workers_are_submitted_and_share_the_work(tmp_path, monkeypatch, capsys):
    pytest.importorskip("submitit")
    monkeypatch.delenv("LLA_DATA", raising=False)
    (tmp_path / "no-data").mkdir()
    folders = {"results": "results", "work-dir": "work", "data-root": "no-data"}
    places = [f"--{option}={tmp_path / name}" for option, name in folders.items()]
    sizes = ["--steps", "5", "--probes", "1", "--batches", "2", "--batch-size", "16"]
    options = [*places, *sizes, "-k", "table2-lenet-random and plain", "-p", "no:cacheprovider"]
    assert submit.main(["2", "--cluster", "local", "--", *options]) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 workers, jobs ")
    logs = [path.read_text() for path in (tmp_path / "work" / "jobs").glob("*_log.out")]
    ended = [line for log in logs for line in log.splitlines() if line.startswith("cell ")]
    computed = [line.split()[2] for line in ended if "finished before" not in line]
    assert len(logs) == 2
    assert len(ended) == 2 * len(computed) > 0, "each worker sees all cells"
    assert len(set(computed)) == len(computed), "each is computed once"


def test_wrong_submissions(monkeypatch, tmp_path):
    folders = ["--results", str(tmp_path / "r"), "--work-dir", str(tmp_path / "w")]
    with pytest.raises(InputError, match="0 workers: give at least 1"):
        submit.main(["0", "--", *folders])
    with pytest.raises(InputError, match="--slurm gpu: give KEY=VALUE"):
        submit.main(["1", "--slurm", "gpu", "--", *folders])
    with pytest.raises(InputError, match="time=MINUTES is missing"):
        submit.main(["1", "--", *folders])
    with pytest.raises(InputError, match="--slurm partition is for --cluster slurm"):
        submit.main(["1", "--cluster", "local", "--slurm", "partition=gpu", "--", *folders])
    with pytest.raises(InputError, match="each worker gets its own --shard"):
        submit.main(["1", "--", *folders, "--shard=1/3"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="slurm cannot be used here"):
        submit.main(["1", "--slurm", "time=60", "--", *folders])
    monkeypatch.setattr(submit.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="submitit is not installed"):
        submit.main(["1", "--slurm", "time=60", "--", *folders])
