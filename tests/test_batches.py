import random
from collections import OrderedDict, UserDict
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.batches import Batch, Batches, cloned, micro_batches, model_arguments

CPU = torch.device("cpu")
X, Y = torch.rand(12, 3), torch.arange(12) % 3


def pairs(*sizes):
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [(X[e - n : e], Y[e - n : e]) for e, n in zip(ends, sizes, strict=True)]


class Loader:
    """A re-iterable that is no sequence."""

    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return iter(self.make())


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        ((X, Y), (12,)),
        ([X, Y], (12,)),
        (pairs(5, 5, 2), (5, 5, 2)),
        (tuple(pairs(5, 5, 2)), (5, 5, 2)),
        (pairs(5, 5), (5, 5)),
        ([[X, Y]], (12,)),
        (DataLoader(TensorDataset(X, Y), batch_size=5), (5, 5, 2)),
        (DataLoader(TensorDataset(X, Y), batch_size=5, drop_last=True), (5, 5)),
        (Loader(lambda: pairs(1, 3)), (1, 3)),
        (Loader(lambda: (pair for pair in pairs(1, 3))), (1, 3)),
        (({"a": X, "b": X}, Y), (12,)),
        ([({"a": X}, Y), ({"a": X[:3]}, Y[:3])], (12, 3)),
        ([((X, X), Y)], (12,)),
        (((X, X), Y), (12,)),
        ([((X, X), Y), ((X[:1], X[:1]), Y[:1])], (12, 1)),
        ([(X, {"labels": Y})], (12,)),
        (((X, Y), (X, Y)), (12, 12)),
    ],
)
def test_forms_of_batches(source, sizes):
    batches = Batches(source, CPU)
    assert batches.sizes == sizes
    assert batches.examples == sum(sizes)
    assert len(batches) == len(sizes)
    for _ in range(2):
        assert tuple(batch.size for batch in batches) == sizes


def test_elements_come_as_they_are():
    for source in (pairs(5, 2), Loader(lambda: pairs(5, 2))):
        for batch, (x, y) in zip(Batches(source, CPU), pairs(5, 2), strict=True):
            assert torch.equal(batch.x, x)
            assert torch.equal(batch.y, y)


def test_a_list_that_is_changed_later_does_not_change_the_batches():
    source = pairs(5, 2)
    batches = Batches(source, CPU)
    source.clear()
    assert [batch.size for batch in batches] == [5, 2]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.bfloat16, torch.complex64])
def test_loaders_of_any_type(dtype):
    x = (torch.rand(4, 3, 2, 2) * 5).to(dtype).to(memory_format=torch.channels_last)
    assert Batches(Loader(lambda: [(x, 3), (x[::2], None)]), CPU).sizes == (4, 2)


class Counter:
    """Loaders that give something else each time."""

    def __init__(self, change):
        self.change, self.passes = change, 0

    def __iter__(self):
        self.passes += 1
        return iter(self.change(self.passes))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda i: [(X + i, Y)], 0),
        (lambda i: [(X, Y), (X, Y + i)], 1),
        (lambda i: [(X, Y)] * i, 1),
        (lambda i: [(X, Y)] * (3 - i), 1),
        (lambda i: [(X, Y)] if i == 1 else [], 0),
        (lambda i: [(X.double() if i == 1 else X, Y)], 0),
        (lambda i: [(X.reshape(12, 3) if i == 1 else X.reshape(12, 3, 1), Y)], 0),
        (lambda i: [({"a": X, "b": X * i}, Y)], 0),
        (lambda i: [((X, X * i), Y)], 0),
        (lambda i: [(X, {"labels": Y * i})], 0),
    ],
    ids=["values", "targets", "more", "fewer", "used up", "dtype", "shape", "mapping", "tuple",
         "mapped targets"],
)  # fmt: skip
def test_loader_that_gives_other_data_on_its_second_pass(change, where):
    with pytest.raises(lla.InputError, match=rf"first at batch {where}\).*shuffle=False"):
        Batches(Counter(change), CPU)


@pytest.mark.parametrize("own_generator", [False, True])
def test_shuffling_loader(own_generator):
    generator = torch.Generator().manual_seed(0) if own_generator else None
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, generator=generator)
    with pytest.raises(lla.InputError, match=r"different data on each pass.*shuffle=False"):
        Batches(loader, CPU)


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_with_random_augmentation(workers):
    class Augmented(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x + torch.rand(()), y

    loader = DataLoader(Augmented(X, Y), batch_size=4, num_workers=workers)
    with pytest.raises(lla.InputError, match="no random augmentation"):
        Batches(loader, CPU)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((pair for pair in pairs(3)), r"one-shot generator.*list\(batches\)"),
        (iter(pairs(3)), "one-shot list_iterator"),
        (map(tuple, pairs(3)), "one-shot map"),
        (zip(X, Y, strict=True), "one-shot zip"),
        ([], "there is no batch: give a pair"),
        ((), "there is no batch"),
        (Loader(list), "there is no batch"),
        (None, "batches is NoneType: give a pair"),
        (3, "batches is int"),
        (TensorDataset(X, Y), "batches is TensorDataset"),
        ([X], "batch 0 is Tensor, not a pair"),
        ([X, Y, Y], "batch 0 is Tensor, not a pair"),
        ([(X, Y), X], "batch 1 is Tensor, not a pair"),
        ([(X, Y, Y)], "batch 0 is tuple of 3, not a pair"),
        ([(X,)], "batch 0 is tuple of 1, not a pair"),
        (["ab"], "batch 0 is str, not a pair"),
        (Loader(lambda: [X]), "batch 0 is Tensor, not a pair"),
        ([(X, Y), (X[:0], Y[:0])], "batch 1 holds no example: leave it out"),
        ([(torch.tensor(1.0), Y)], "batch 0 holds no example"),
        ([(X.numpy(), Y)], "batch 0.* ndarray"),
        ((X.numpy(), Y), "ndarray"),
        ([{"text": ["a"]}], "input of batch 0 is dict and holds no tensor"),
        ({"a": DataLoader(TensorDataset(X))}, "input of batch 0 is dict and holds no tensor"),
        (pack_sequence([X, X[:3]]), "batch 0 is Tensor, not a pair"),
        ([pack_sequence([X])], "batch 0 is PackedSequence, not a pair"),
        ([([1.0, 2.0], Y)], "batch 0.* (list|tensor)"),
        ([("text", Y)], "batch 0.* str"),
        ([(None, Y)], "batch 0.* NoneType"),
    ],
)
def test_sources_that_cannot_be_used(source, message):
    with pytest.raises(lla.InputError, match=message):
        Batches(source, CPU)


@pytest.mark.parametrize(
    "source",
    [
        [(X, Y), (X.to("meta"), Y)],
        [(X, Y), (X, Y.to("meta"))],
        [(X, Y), ({"a": X, "b": X.to("meta")}, Y)],
        Loader(lambda: [(X, Y), (X.to("meta"), Y.to("meta"))]),
    ],
)
def test_batch_on_another_device(source):
    with pytest.raises(lla.InputError, match="model is on cpu and batch 1 on meta: move one"):
        Batches(source, CPU)


def test_model_on_another_device():
    model = torch.nn.Linear(3, 3, device="meta")
    with pytest.raises(lla.InputError, match="weight is on the meta device and has no"):
        lla.Problem(model, (X, Y))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_model_on_cuda_and_data_on_the_cpu():
    model = torch.nn.Linear(3, 3, device="cuda")
    with pytest.raises(lla.InputError, match="model is on cuda:0 and batch 0 on cpu"):
        lla.Problem(model, (X, Y))
    assert lla.Problem(model, (X.cuda(), Y.cuda())).loss().isfinite()


@pytest.mark.parametrize("source", [pairs(5, 4, 2), Loader(lambda: pairs(5, 4, 2))])
def test_split_batches_hold_the_same_examples_and_none_spans_two(source):
    batches = Batches(source, CPU)
    split = batches.split(2)
    assert split.sizes == (2, 2, 1, 2, 2, 2)
    assert (batches.sizes, split.examples, len(split)) == ((5, 4, 2), 11, 6)
    assert split.in_memory == batches.in_memory
    for _ in range(2):
        assert torch.equal(torch.cat([batch.x for batch in split]), X[:11])
        assert torch.equal(torch.cat([batch.y for batch in split]), Y[:11])
        assert tuple(len(batch.x) for batch in split) == split.sizes


def test_micro_batches_are_views_of_every_tensor_in_nested_inputs():
    y = {"labels": Y}
    parts = micro_batches(Batch({"a": X, "b": [X, (Y, "name")], "flag": True}, y, 12), 5)
    assert [(len(part["labels"]), size) for _, part, size in parts] == [(5, 5), (5, 5), (2, 2)]
    for start, (x, part, _) in zip((0, 5, 10), parts, strict=True):
        assert list(x) == ["a", "b", "flag"]
        assert (x["flag"], x["b"][1][1]) == (True, "name")
        assert torch.equal(x["b"][1][0], Y[start : start + 5])
        assert torch.equal(part["labels"], Y[start : start + 5])
        assert x["a"].data_ptr() == X[start:].data_ptr()


@pytest.mark.parametrize("size", [None, 12, 100])
def test_a_batch_no_larger_than_its_parts_stays_whole(size):
    ((x, y, _),) = micro_batches(Batch(X, Y, 12), size)
    assert x is X
    assert y is Y


@pytest.mark.parametrize(
    ("pair", "shape"),
    [((X, torch.eye(3)), r"\(3, 3\)"), (({"x": X, "scale": torch.tensor(2.0)}, Y), r"\(\)")],
)
def test_a_tensor_without_a_row_an_example_cannot_be_cut(pair, shape):
    with pytest.raises(lla.InputError, match=f"a tensor {shape} of a batch of 12 examples"):
        micro_batches(Batch(*pair, 12), 5)


def test_micro_batches_of_no_example():
    with pytest.raises(lla.InputError, match=r"micro_batch is 0: .* at least one example"):
        Batches((X, Y), CPU).split(0)


class Encoding(UserDict):
    """What a Hugging Face tokenizer gives: a mapping that is no dict."""


class Dicts(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return {"x": X[index], "labels": Y[index]}


DICT = {"x": X, "labels": Y}


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        (DICT, (12,)),
        ([DICT], (12,)),
        ([DICT, {"x": X[:3], "labels": Y[:3]}], (12, 3)),
        ((DICT, {"x": X[:3], "labels": Y[:3]}), (12, 3)),
        (OrderedDict(DICT), (12,)),
        (Encoding(DICT), (12,)),
        ([Encoding(DICT), Encoding(DICT)], (12, 12)),
        (MappingProxyType(DICT), (12,)),
        (DataLoader(Dicts(), batch_size=5), (5, 5, 2)),
    ],
)
def test_mappings_are_whole_inputs_and_name_their_targets(source, sizes):
    """Issue 14, item 14: dict batches, a bare dict ("batch 0 is str"), a DataLoader of dicts."""
    batches = Batches(source, CPU)
    assert batches.sizes == sizes
    for _ in range(2):
        for batch in batches:
            assert type(batch.x) is dict
            assert list(batch.x) == ["x", "labels"]
            assert torch.equal(batch.x["x"], X[: batch.size] if sizes[0] == 12 else batch.x["x"])
            assert torch.equal(batch.y, batch.x["labels"])
    assert torch.equal(torch.cat([batch.x["x"] for batch in batches])[:12], X)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["labels", "label"], "labels"),
        (["target", "label"], "label"),
        (["target", "targets"], "targets"),
        (["target"], "target"),
        (["y"], None),
    ],
)
def test_where_the_targets_of_a_mapping_are(keys, expected):
    element = {"x": X, **{key: Y + i for i, key in enumerate(keys)}}
    (batch,) = Batches(element, CPU)
    assert batch.y is (None if expected is None else element[expected])
    assert batch.x == element
    (batch,) = Batches({"x": X, "labels": None, "target": Y}, CPU)
    assert batch.y is Y


def test_a_pair_with_a_mapping_stays_a_pair():
    for source in (({"x": X}, Y), [({"x": X}, Y)], ({"x": X}, {"a": Y}), [({"x": X}, {"a": Y})]):
        (batch,) = Batches(source, CPU)
        assert batch.x["x"] is X
        assert (batch.y["a"] if isinstance(batch.y, dict) else batch.y) is Y


@pytest.mark.parametrize("whole", [False, True])
def test_a_batch_is_taken_as_it_is(whole):
    kept = Batch({"x": X, "labels": Y}, None, 12)
    for source in (kept, [kept], (kept,)):
        (batch,) = Batches(source, CPU, whole=whole)
        assert batch.x is kept.x
        assert (batch.y, batch.size) == (None, 12)
    for source in ((kept, kept), Loader(lambda: [kept, kept])):
        assert Batches(source, CPU, whole=whole).sizes == (12, 12)
    with pytest.raises(lla.InputError, match="model is on cpu and batch 0 on meta"):
        Batches(Batch(X.to("meta"), Y, 12), CPU)


SCALAR = torch.tensor(1.0)


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        (X, (12,)),
        ((X, Y), (12,)),
        ([X, Y], (12,)),
        (DICT, (12,)),
        (Encoding(DICT), (12,)),
        (((X, X[:2]), Y), (12,)),
        ([X], (12,)),
        ([X, X[:3], X[:2]], (12, 3, 2)),
        ([(X, X[:2], "name"), (X[:2], X, "name")], (12, 2)),
        ([{"weight": SCALAR, "x": [(X, Y)]}], (12,)),
        ([(X[:0], X[:3])], (3,)),
        (DataLoader(X, batch_size=5), (5, 5, 2)),
        (pack_sequence([X[:4], X[:2]]), (2,)),
        ([(pack_sequence([X[:4], X[:2]]), Y)], (2,)),
    ],
)
def test_whole_elements_are_given_as_they_are(source, sizes):
    """Issue 14, item 14: `loss=` may take (model, batch), and then a batch is anything."""
    batches = Batches(source, CPU, whole=True)
    assert batches.sizes == sizes
    assert all(batch.y is None for batch in batches)
    if batches.in_memory:
        elements = [source] if len(sizes) == 1 and not isinstance(source, list) else source
        if isinstance(source, list) and source[0] is X and len(source) == 2:
            elements = [source]
        assert all(b.x is element for b, element in zip(batches, elements, strict=True))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["ab"], "batch 0 is str and holds no tensor"),
        ([(X, Y), 3], "batch 1 is int and holds no tensor"),
        ([(SCALAR, X[:0])], "batch 0 holds no example"),
        ((each for each in [X]), r"one-shot generator.*list\(batches\)"),
        (Loader(list), "there is no batch"),
        ([(X, [Y.to("meta")])], "model is on cpu and batch 0 on meta"),
    ],
)
def test_whole_elements_that_cannot_be_used(source, message):
    with pytest.raises(lla.InputError, match=message):
        Batches(source, CPU, whole=True)


def test_split_mappings_and_whole_elements():
    for source in (DICT, Loader(lambda: [DICT]), [Encoding(DICT)]):
        split = Batches(source, CPU).split(5)
        assert split.sizes == (5, 5, 2)
        assert torch.equal(torch.cat([batch.x["x"] for batch in split]), X)
        assert torch.equal(torch.cat([batch.y for batch in split]), Y)
    for whole in (Batches(Encoding(DICT), CPU, whole=True), Batches([Encoding(DICT)], CPU, True)):
        split = whole.split(5)
        assert {type(batch.x) for batch in split} == {Encoding}
        assert all(batch.y is None for batch in split)
        assert torch.equal(torch.cat([batch.x["labels"] for batch in split]), Y)
    split = Batches((X, Y), CPU, whole=True).split(7)
    assert torch.equal(torch.cat([batch.x[1] for batch in split]), Y)
    assert len(X) == len(Encoding(DICT)["x"]) == 12


PACKED = pack_sequence([X[:2], X[:5], X[:3]], enforce_sorted=False)


@pytest.mark.parametrize(
    "x", [PACKED, (PACKED, X[:3]), {"a": PACKED}, pack_sequence([X[:5], X[:5], X[:2]])]
)
def test_packed_sequences(x):
    """Issue 14, item 12: `PackedSequence` as input; its examples are its sequences."""
    y = Y[:3]
    for source in ((x, y), [(x, y)], Loader(lambda: [(x, y)])):
        (batch,) = Batches(source, CPU)
        assert batch.size == 3
        assert batch.x is x
        assert batch.y is y
    assert Batches([PACKED, y], CPU).sizes == (3,)
    with pytest.raises(lla.InputError, match="a PackedSequence of 3 sequences cannot be split"):
        micro_batches(batch, 2)
    assert micro_batches(batch, 3) == [batch]
    (split,) = Batches((x, y), CPU).split(3)
    assert split.x is x


def test_packed_sequences_that_differ_or_are_elsewhere():
    other = PackedSequence(PACKED.data, torch.tensor([3, 3, 3, 1]), *PACKED[2:])
    assert len(PACKED.data) == 10
    with pytest.raises(lla.InputError, match=r"first at batch 0\).*shuffle=False"):
        Batches(Counter(lambda i: [(PACKED if i == 1 else other, Y[:3])]), CPU)
    with pytest.raises(lla.InputError, match="model is on cpu and batch 0 on meta"):
        Batches((PACKED.to("meta"), Y[:3]), CPU)
    meta = torch.device("meta")  # only the batch sizes stay on the CPU
    assert Batches((PACKED.to(meta), Y[:3].to(meta)), meta).sizes == (3,)


def test_arguments_of_the_model():
    (packed,), kwargs = model_arguments(cloned(PACKED))
    assert isinstance(packed, PackedSequence)
    assert not kwargs
    for mine, own in zip(packed, PACKED, strict=True):
        assert torch.equal(mine, own)
        assert mine.data_ptr() != own.data_ptr()
    out = torch.nn.LSTM(3, 4)(packed)[0]
    assert isinstance(out, PackedSequence)
    args, kwargs = model_arguments(cloned((X, [Y, "name"], PACKED)))
    assert (len(args), args[1][1], kwargs) == (3, "name", {})
    for args in (model_arguments((X, Y)), model_arguments([X, Y])):
        assert [tuple(each.shape) for each in args[0]] == [(12, 3), (12,)]
    for mapping in (DICT, Encoding(DICT), MappingProxyType(DICT)):
        args, kwargs = model_arguments(mapping)
        assert (args, list(kwargs)) == ((), ["x", "labels"])
        assert torch.equal(kwargs["x"], X)
    (x,), kwargs = model_arguments(X)
    assert torch.equal(x, X)
    assert kwargs == {}


def test_copies_keep_the_type_of_a_nesting():
    nested = {"a": Encoding({"x": X}), "b": [(X, None), 3], "c": OrderedDict(y=Y)}
    copies = cloned(nested)
    assert type(copies["a"]) is Encoding
    assert type(copies["c"]) is OrderedDict
    assert torch.equal(copies["a"]["x"], X)
    copies["a"]["x"].zero_()
    copies["b"][0][0].zero_()
    assert nested["a"]["x"] is X
    assert X.any()
    assert copies["b"][0][1] is None


@pytest.mark.timeout(60)
def test_an_endless_loader_is_refused(monkeypatch):
    """Issue 14, item 12: an endless loader never returned."""
    monkeypatch.setattr("lla.batches._MOST", 20)

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield X[0], Y[0]

    message = r"gave 20 batches and goes on.* list\(itertools.islice\(loader, n\)\)"
    for whole in (False, True):
        with pytest.raises(lla.InputError, match=message):
            Batches(DataLoader(Endless(), batch_size=2), CPU, whole)
    assert len(Batches(Loader(lambda: pairs(*[1] * 12)), CPU)) == 12
    monkeypatch.setattr("lla.batches._MOST", 12)
    assert len(Batches(Loader(lambda: pairs(*[1] * 12)), CPU)) == 12
    monkeypatch.setattr("lla.batches._MOST", 3)  # one that says how many it has is believed
    assert len(Batches(DataLoader(TensorDataset(X, Y)), CPU)) == 12


class Drawing(TensorDataset):
    """Draws from every random state, and gives the same all the same."""

    def __getitem__(self, index):
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(())
        return super().__getitem__(index)


def all_states(*generators):
    own = [each.get_state().tolist() for each in generators]
    numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
    return random.getstate(), numpy, torch.get_rng_state().tolist(), own


class Chosen(torch.utils.data.Sampler):
    """A sampler that draws from its own generator in vain."""

    def __init__(self, generator):
        self.generator = generator

    def __len__(self):
        return 12

    def __iter__(self):
        for index in range(12):
            torch.rand((), generator=self.generator)
            yield index


@pytest.mark.parametrize("place", ["loader", "sampler", "batch_sampler"])
def test_reading_leaves_every_random_state(place):
    """Issue 14, item 7: a call advanced Python's `random` and the loader's generator."""
    own = torch.Generator().manual_seed(3)
    data = Drawing(X, Y)
    if place == "loader":
        loader = DataLoader(data, batch_size=5, generator=own)
    elif place == "sampler":
        loader = DataLoader(data, batch_size=5, sampler=Chosen(own))
    else:
        sampler = torch.utils.data.BatchSampler(Chosen(own), 5, drop_last=False)
        loader = DataLoader(data, batch_sampler=sampler)
    before = all_states(own)
    batches = Batches(loader, CPU)
    assert all_states(own) == before
    for _ in range(2):
        for batch in batches:
            assert all_states(own) == before
            assert batch.size in (5, 2)
        assert all_states(own) == before
    next(iter(batches))
    list(batches.split(2))
    assert all_states(own) == before
    list(loader)
    assert all_states(own) != before


def test_random_states_are_kept_when_a_loader_fails():
    def broken():
        yield X, Y
        random.random()
        raise OSError("no file")

    before = all_states()
    with pytest.raises(OSError, match="no file"):
        Batches(Loader(broken), CPU)
    assert all_states() == before


def test_every_pass_draws_the_same_whatever_is_drawn_between():
    """Each pass has its own stream, from the states that were found when the batches were made."""
    own = torch.Generator().manual_seed(3)
    drawn = []

    class Logging(TensorDataset):
        def __getitem__(self, index):
            drawn.append(
                (random.random(), np.random.rand(), torch.rand(()).item())  # noqa: NPY002
            )
            return super().__getitem__(index)

    class Sampling(Chosen):
        def __iter__(self):
            for index in range(12):
                drawn.append(torch.rand((), generator=self.generator).item())
                yield index

    loader = DataLoader(Logging(X, Y), batch_size=5, sampler=Sampling(own))
    batches = Batches(loader, CPU)
    passes = []
    for _ in range(2):
        drawn.clear()
        for _ in batches:
            torch.rand(7), random.random(), np.random.rand(3)  # noqa: NPY002
            torch.rand(2, generator=own)
        passes.append(list(drawn))
    assert passes[0] == passes[1]
    assert len(set(passes[0])) == 24
    drawn.clear()
    for _ in zip(batches, batches, strict=True):  # two passes at once
        pass
    assert sorted(map(str, drawn)) == sorted(map(str, 2 * passes[0]))


def test_a_loader_that_draws_with_pythons_or_numpys_generator_is_refused():
    for draw in (random.random, np.random.rand):
        before = all_states()
        with pytest.raises(lla.InputError, match="different data on each pass"):
            Batches(Loader(lambda draw=draw: [(X + draw(), Y)]), CPU)
        assert all_states() == before


def test_shuffling_with_an_own_generator_is_refused_and_leaves_it():
    own = torch.Generator().manual_seed(3)
    before = all_states(own)
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, generator=own)
    with pytest.raises(lla.InputError, match="different data on each pass"):
        Batches(loader, CPU)
    assert all_states(own) == before
