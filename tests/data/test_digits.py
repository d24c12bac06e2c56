import numpy as np
import torch
from sklearn.datasets import load_digits

from lla import data
from lla.data import digits


def test_handwritten_digits_are_a_fixed_set():
    # The construction is in integers: these bytes are the same on every machine.
    train, test = (data.load("digits", split) for split in ("train", "test"))
    assert train.images.shape == (1438, 1, 28, 28)
    assert test.images.shape == (359, 1, 28, 28)
    assert train.sha256 == "23dc83194ab5815336f912589d9935cbbfef32c4cc78d8cfa113c70d78a1aefc"
    assert train.images.max() == 255
    assert not train.images[:, :, :4].any()
    assert not train.images[:, :, :, -4:].any()


def test_handwritten_split_is_every_fifth_image():
    labels = torch.from_numpy(load_digits().target)
    is_test = torch.arange(len(labels)) % 5 == 4
    assert torch.equal(data.load("digits", "test").labels, labels[is_test])
    assert torch.equal(data.load("digits", "train").labels, labels[~is_test])


def test_handwritten_enlargement_is_torch_s_bilinear():
    small = torch.from_numpy(load_digits().images)[4::5, None]
    large = torch.nn.functional.interpolate(small, 20, mode="bilinear", align_corners=False)
    drawn = data.load("digits", "test").images[:, :, 4:-4, 4:-4]
    assert (large * 255 / 16 - drawn).abs().max() <= 0.5 + 1e-9


def test_rendered_digits_are_one_fixed_set():
    first = digits._render.__wrapped__(1, 20)
    more = digits._render.__wrapped__(1, 30)
    other = digits._render.__wrapped__(0, 20)
    assert torch.equal(first[0], more[0][:20])
    assert not torch.equal(first[0], other[0])
    assert first[1].tolist() == [*range(10), *range(10)]


def test_rendered_digits_vary_and_are_readable_by_a_linear_rule():
    images, labels = digits._render.__wrapped__(2, 600)
    assert images.shape == (600, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert len(images.flatten(1).unique(dim=0)) == 600
    # The label is in the picture: the middle's shape, whatever its colours, tells it well above
    # chance. Edges (the local contrast) do not care whether ink or ground is lighter.
    gray = data.to_grayscale(images)[:, 0].double().numpy()
    rows, columns = np.gradient(gray, axis=(1, 2))
    edges = np.hypot(rows, columns)[:, 4:28, 8:24]
    edges = edges.reshape(600, 12, 2, 8, 2).mean((2, 4)).reshape(600, -1)
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    means = np.stack([edges[:400][labels[:400] == digit].mean(0) for digit in range(10)])
    guess = (edges[400:] @ means.T - (means**2).sum(1) / 2).argmax(1)
    assert (guess == labels[400:].numpy()).mean() > 0.3


def test_the_caller_s_changes_do_not_reach_the_next_caller(monkeypatch):
    monkeypatch.setitem(digits._RENDERED, "test", (3, 5))
    images, _ = digits.rendered("test")
    images.zero_()
    assert digits.rendered("test")[0].any()
