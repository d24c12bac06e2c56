import dataclasses
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lla import files
from lla.errors import InputError, NonFiniteError
from paper_tables.engine.records import Record, Source, config_hash, read_records, write_records

SHA = "0123456789abcdef" * 4
PUBLISHED = sorted((Path(__file__).parents[3] / "results" / "records").glob("*.jsonl"))


def make(**changes):
    fields = {
        "table": "table2",
        "row": "lenet",
        "column": "random/eval",
        "metric": "kh1",
        "value": 0.98,
        "stderr": 0.01,
        "n": 2,
        "stderr_kind": "batches",
        "paper_value": "0.98",
        "verdict": "reproduced",
        "fidelity": "reduced",
        "config": {"m": 100, "mode": "eval"},
    }
    return Record(**{**fields, **changes})


def test_a_record_survives_the_file(tmp_path):
    path = tmp_path / "deep" / "table2.jsonl"
    record = make(
        data=Source("mnist", SHA),
        config={"shape": (1, 32, 32), "m": 100},
        note="a line\u2028separator, and ± as it is",
    )
    write_records(path, [record])
    assert read_records(path) == [record]
    assert [p.name for p in path.parent.iterdir() if not p.name.startswith(".lock")] == [path.name]


def test_records_of_equal_identity_take_the_old_ones_place(tmp_path):
    path = tmp_path / "r.jsonl"
    write_records(path, [make(), make(metric="re")])
    write_records(path, [make(value=0.5), make(config={"m": 50, "mode": "eval"})])
    assert [(r.metric, r.value, r.config["m"]) for r in read_records(path)] == [
        ("kh1", 0.5, 100),
        ("re", 0.98, 100),
        ("kh1", 0.98, 50),
    ]


def test_config_hash_sees_values_and_not_order():
    assert config_hash({"a": 1, "b": [1, 2]}) == config_hash({"b": (1, 2), "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    assert len(config_hash({})) == 16
    for bad in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises(InputError, match="cannot be hashed"):
            config_hash(bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["value", "stderr", "seconds"])
def test_non_finite_numbers_are_refused(field, bad):
    with pytest.raises(NonFiniteError, match=field):
        make(**{field: bad})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": None}, "exactly when it was not run"),
        ({"verdict": "not_run"}, "exactly when it was not run"),
        ({"value": None, "verdict": "not_run"}, "say why"),
        ({"reason": "no data"}, "say why"),
        ({"verdict": "perfect"}, "verdict"),
        ({"fidelity": None}, "fidelity"),
        ({"fidelity": "substitute"}, "never judged"),
        ({"stderr": -0.1}, "not negative"),
        ({"stderr_kind": "runs"}, "stderr_kind"),
        ({"value": True}, "value is True: it should be a valid number"),
        ({"value": "1"}, "value is '1'"),
        ({"legacy": 1}, "legacy is 1"),
        ({"m": 1.5}, "m is 1.5: it should be a valid integer"),
        ({"m": True}, "m is True"),
        ({"note": 1}, "note is 1"),
        ({"row": ""}, "row is ''.*identity"),
        ({"config": [1]}, "config is .1."),
        ({"data": 3}, "data is 3: it takes a name and a sha256"),
        ({"data": {"name": "mnist"}}, "data.sha256 is missing"),
        ({"data": {"name": "mnist", "sha256": SHA, "size": 1}}, "data.size is 1"),
        ({"host": "a"}, "host is 'a': there is no such field"),
        ({"config_hash": "0" * 16}, "hashes to"),
        ({"batch_sha256": "xyz"}, "64 hex digits"),
        ({"value": 10**400}, r"value is 10+\.\.\."),
        ({"value": -(10**5000)}, "value is a number of thousands of digits"),
        ({"value": 2**70}, "too large a number"),
        ({"seconds": 10**400}, "seconds is 10"),
        ({"seed": 2**70}, "seed is"),
        ({"config": {"m": [10**400]}}, "too large a number"),
        ({"n": -5}, "n is -5"),
        ({"n": 0}, "n is 0"),
        ({"seconds": -1.0}, r"seconds is -1\.0"),
        ({"matvecs": -1}, "matvecs is -1"),
        ({"peak_memory": -1}, "peak_memory is -1"),
        ({"probes": 0}, "probes is 0"),
        ({"table": "../table2"}, "files are named by it"),
        ({"note": "\ud800"}, "UTF-8"),
        ({"config": {"\udc00": 1}}, "UTF-8"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, message):
    with pytest.raises(InputError, match=message) as refusal:
        make(**changes)
    assert "\n" not in str(refusal.value)
    assert "pydantic" not in str(refusal.value)


def nested(levels):
    return [nested(levels - 1)] if levels else 1


def test_how_deep_a_configuration_may_be():
    assert make(config={"a": nested(31)}).config_hash
    for levels in (32, 200, 900):
        with pytest.raises(InputError, match="nested deeper than 32 levels"):
            make(config={"a": nested(levels)})


@pytest.mark.hard_use("A record that names a file outside the folder of results is refused")
@pytest.mark.parametrize(
    "name",
    ["../a.npz", "a/../../b", "a/..", "..", "./a", "a//b", "\\a", "a\\..\\b", "C:a", "a\0b", "a/ "],
)
def test_artifacts_lie_in_the_folder_of_results(name):
    with pytest.raises(InputError, match="it takes a name below the folder of results"):
        make(artifact=Source(name, SHA))


def test_an_artifact_in_a_folder():
    assert make(artifact=Source("planes/lenet-a.b.npz", SHA)).artifact.name.startswith("planes/")


def test_numbers_are_kept_as_they_are_given():
    assert '"value": 1, ' in make(value=1).to_json()
    assert '"value": 1.0, ' in make(value=1.0).to_json()
    assert '"value": 0.1, ' in make(value=np.float64(0.1)).to_json()
    assert '"value": 0.5, ' in make(value=np.float32(0.5)).to_json()


def test_a_record_is_not_changed():
    record = make(data=Source("mnist", SHA))
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.value = 1.0
    assert record.data == Source("mnist", SHA)
    assert hash(record.data) == hash(Source("mnist", SHA))
    assert record == pickle.loads(pickle.dumps(record))
    with pytest.raises(InputError, match="not negative"):
        dataclasses.replace(record, stderr=-1.0)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_records_are_written_as_they_were_read(path):
    assert "".join(record.to_json() + "\n" for record in read_records(path)) == path.read_text()


def test_there_are_published_records():
    assert PUBLISHED


@pytest.mark.parametrize(
    "text",
    ["/srv/data/x.npz", "see /work for it", "a\n/b", "C:\\data", "~/data", "file://x", "in '/tmp'"],
)
def test_paths_of_the_machine_are_refused(text):
    with pytest.raises(InputError, match="path"):
        make(note=text)
    with pytest.raises(InputError, match="path"):
        make(config={"where": [text]})
    with pytest.raises(InputError, match="path"):
        make(weights=Source(text, SHA))


@pytest.mark.parametrize(
    "text", ["random/train", "https://arxiv.org/abs/1", "spectra/a.npz", "a / b"]
)
def test_what_only_looks_like_a_path_is_not(text):
    assert make(note=text).note == text


def test_a_source_needs_a_whole_digest():
    with pytest.raises(InputError, match=r"^sha256 is 'abc': give its 64 hex digits$"):
        Source("mnist", "abc")
    with pytest.raises(InputError, match=r"^name is '': give a text"):
        Source("", SHA)


GOOD = make().to_json()


@pytest.mark.hard_use(
    "A line of records with a number of 400 or 5000 digits, 1e999, repeated keys, deep nesting, "
    "negative counts or bytes that are no UTF-8 is refused by file and line"
)
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace("0.98,", f"1{'0' * 400},", 1), "value is 10"),
        (GOOD.replace("0.98,", f"1{'0' * 5000},", 1), "not valid JSON"),
        (GOOD.replace("0.98,", "1e999,", 1), "value is inf"),
        (GOOD.replace('"n": 2', '"n": -5', 1), "n is -5"),
        (GOOD.replace('"n": 2', '"n": 2, "n": 3', 1), "'n' stands there twice"),
        (GOOD.replace('"m": 100', '"m": 100, "m": 50', 1), "'m' stands there twice"),
        (GOOD.replace('"m": 100', f'"m": {"[" * 10**5}', 1), "not valid JSON"),
        (GOOD.replace('"m": 100', f'"m": {"[" * 500}{"]" * 500}', 1), "nested deeper than 32"),
        (GOOD.replace("lenet", "\\ud800", 1), "unicode"),
        (GOOD.encode().replace(b"lenet", b"le\xffnet", 1), "not UTF-8"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[]", "a JSON object"),
        ('{"table": "t"}', "missing fields"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "r.jsonl"
    line = line if isinstance(line, bytes) else line.encode()
    first = make(metric="re").to_json().encode()
    path.write_bytes(b"\n".join([first, line, b""]))
    with pytest.raises(InputError, match=rf"r\.jsonl, line 2: .*{message}") as refusal:
        read_records(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="line 2"):
        write_records(path, [make()])
    assert path.read_bytes().endswith(line + b"\n"), "the broken file is left for its owner"


@pytest.mark.hard_use(
    "A file of records with flipped bits or a missing end is read as records that can be written "
    "again, or refused by file and line"
)
def test_damaged_files_give_records_or_a_line(tmp_path, record_property):
    path, generator = tmp_path / "r.jsonl", random.Random(0)
    write_records(path, [make(row=f"r{i}", data=Source("mnist", SHA)) for i in range(5)])
    whole, refused = path.read_bytes(), []
    count = 20_000 if os.environ.get("LLA_LONG") else 400
    for _ in range(count):
        damaged = bytearray(whole[: generator.randrange(len(whole) // 2, 2 * len(whole))])
        for _ in range(generator.randrange(1, 3)):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read_records(path)
        except InputError as error:
            refused.append(str(error))
        else:
            write_records(tmp_path / "again.jsonl", found)
    record_property("measured", f"{count} damages, {len(refused)} refused")
    assert all("r.jsonl, line " in message for message in refused)
    assert 0 < len(refused) < count


def test_nan_and_repeats_in_a_file_are_named(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(make().to_json().replace("0.98,", "NaN,", 1) + "\n")
    with pytest.raises(InputError, match="line 1: it holds NaN"):
        read_records(path)
    path.write_text((make().to_json() + "\n") * 2)
    with pytest.raises(InputError, match=r"line 2: .*second time"):
        read_records(path)


def test_the_json_has_every_field_of_the_design():
    names = set(json.loads(make().to_json()))
    design = (
        "table, row, column, metric, value, stderr, n, paper_value, verdict, fidelity, seed, "
        "dtype, device, m, probes, batches, batch_size, data, weights, config, config_hash, "
        "code_version, torch, threads, seconds, matvecs, peak_memory"
    )
    assert names >= set(design.split(", "))
    assert not {"host", "hostname", "path", "cwd", "user"} & names


@pytest.mark.hard_use("Four writers of one file of records at once lose nothing")
def test_writers_in_parallel_lose_nothing(tmp_path):
    path = tmp_path / "r.jsonl"

    def write(worker):
        for i in range(10):
            write_records(path, [make(row=f"{worker}-{i}")])

    threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {r.row for r in read_records(path)} == {f"{w}-{i}" for w in range(4) for i in range(10)}


def test_an_unchanged_file_is_not_written_again(tmp_path):
    path = tmp_path / "r.jsonl"
    write_records(path, [make()])
    before = path.stat().st_ino
    write_records(path, [dataclasses.replace(make())])
    assert path.stat().st_ino == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_cut_off_at_any_step_changes_nothing(tmp_path, monkeypatch, step):
    path = tmp_path / "r.jsonl"
    write_records(path, [make()])

    def cut_off(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            write_records(path, [make(value=0.5)])
    assert read_records(path) == [make()]
    write_records(path, [make(value=0.5)])
    assert read_records(path) == [make(value=0.5)]


# Forks of one loaded process, so that the import of torch is paid once. A line from the test
# starts a writer, whose number is the answer; end of input ends the process.
WRITERS = """
import os, signal, sys
from paper_tables.engine.records import Record, write_records

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
parent = os.getpid()
while sys.stdin.readline():
    pid = os.fork()
    if pid == 0:
        i = 0
        while os.getppid() == parent:  # a test that fails leaves no writer behind
            rows = [Record(table="t", row=f"r{j}", column="c", metric="m", value=os.getpid() + i,
                           fidelity="paper", note="x" * 4000) for j in range(50)]
            write_records(sys.argv[1], rows)
            i += 1
        os._exit(0)
    print(pid, flush=True)
"""


@pytest.mark.hard_use(
    "Writers of records are killed 30 times at random moments: the file is the old one or the new "
    "one"
)
@pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL are POSIX")
def test_a_killed_writer_leaves_a_valid_file(tmp_path):
    path = tmp_path / "r.jsonl"
    generator = random.Random(0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    seen = set()
    with subprocess.Popen([sys.executable, "-c", WRITERS, str(path)], **pipes) as parent:
        try:
            for _ in range(30):
                parent.stdin.write("\n")
                parent.stdin.flush()
                pid = int(parent.stdout.readline())
                assert pid > 1
                written = os.stat(path).st_mtime_ns if path.exists() else 0
                deadline = time.monotonic() + 30  # a busy machine takes long to write once
                while not path.exists() or os.stat(path).st_mtime_ns == written:
                    assert time.monotonic() < deadline
                    time.sleep(0.002)
                time.sleep(generator.uniform(0.0, 0.1))
                os.kill(pid, signal.SIGKILL)
                if path.exists():
                    rows = read_records(path)  # raises if anything is broken
                    assert len(rows) == 50
                    values = {row.value for row in rows}
                    assert len(values) == 1, "half of one write, half of another"
                    seen |= values
        finally:
            parent.stdin.close()
    assert len(seen) > 1, "the writers were killed before they wrote"
    write_records(path, [make()])  # the lock of the killed is free
    assert len(read_records(path)) == 51
