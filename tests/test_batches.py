import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.batches import Batch, Batches, micro_batches

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
        ([(X, Y, Y)], "batch 0 is tuple, not a pair"),
        ([(X,)], "batch 0 is tuple, not a pair"),
        (["ab"], "batch 0 is str, not a pair"),
        ([{"x": X, "y": Y}], "batch 0 is dict, not a pair"),
        (Loader(lambda: [X]), "batch 0 is Tensor, not a pair"),
        ([(X, Y), (X[:0], Y[:0])], "batch 1 holds no example: leave it out"),
        ([(torch.tensor(1.0), Y)], "batch 0 holds no example"),
        ([(X.numpy(), Y)], "batch 0.* ndarray"),
        ((X.numpy(), Y), "ndarray"),
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
    with pytest.raises(lla.InputError, match="model is on meta and batch 0 on cpu: move one"):
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
    assert [len(part["labels"]) for _, part in parts] == [5, 5, 2]
    for start, (x, part) in zip((0, 5, 10), parts, strict=True):
        assert list(x) == ["a", "b", "flag"]
        assert (x["flag"], x["b"][1][1]) == (True, "name")
        assert torch.equal(x["b"][1][0], Y[start : start + 5])
        assert torch.equal(part["labels"], Y[start : start + 5])
        assert x["a"].data_ptr() == X[start:].data_ptr()


@pytest.mark.parametrize("size", [None, 12, 100])
def test_a_batch_no_larger_than_its_parts_stays_whole(size):
    ((x, y),) = micro_batches(Batch(X, Y, 12), size)
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
