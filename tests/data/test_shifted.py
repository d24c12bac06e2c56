import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lla import data, models
from lla.data import File, registry, shifted
from lla.data.files import file_hash
from lla.errors import InputError, MissingDataError


def pictures(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


def test_the_same_seed_gives_the_same_bytes_on_every_machine():
    images = (torch.arange(7 * 3072) * 31 % 256).to(torch.uint8).reshape(7, 3, 32, 32)
    digest = hashlib.sha256(shifted.shift(images, 5).numpy().tobytes()).hexdigest()
    assert digest == "7fdaf3a0d72dad9ba500aa8d7dbdc54fbb8df1c7615ca3caf79e428d8ce4c198"


def test_shape_and_dtype_and_that_the_input_is_left_alone():
    images = pictures(3)
    before = images.clone()
    changed = shifted.shift(images, 0)
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert shifted.shift(images[:0], 0).shape == (0, 3, 32, 32)
    black_and_white = torch.stack([torch.zeros_like(images[0]), torch.full_like(images[0], 255)])
    assert shifted.shift(black_and_white, 0).float().std() > 50, "nothing wraps around"


def test_part_of_a_set_gives_the_same_pictures():
    images = pictures(600)  # more than a slice
    whole = shifted.shift(images, 3)
    assert torch.equal(shifted.shift(images[:10], 3), whole[:10])
    chosen = torch.tensor([599, 7, 300])
    assert torch.equal(shifted.shift(images[chosen], 3, chosen), whole[chosen])
    assert not torch.equal(shifted.shift(images[chosen], 3), whole[chosen])


def test_each_seed_and_each_position_draws_by_itself():
    images = pictures(1).expand(40, -1, -1, -1)
    first, second = (shifted.shift(images, seed) for seed in (0, 1))
    drawn = {picture.numpy().tobytes() for picture in (*first, *second)}
    assert len(drawn) == 80
    assert not torch.equal(first[1:], second[:-1]), "seeds are no shifted positions"


def test_the_random_state_of_others_is_left_alone():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    shifted.shift(pictures(2), 0)
    assert states() == before


def test_random_words_are_uniform_and_apart():
    words = shifted._words(0, np.arange(100, dtype=np.uint64), 100)
    assert len(np.unique(words)) == words.size
    bits = np.unpackbits(words.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 4 * 0.5 / bits.size**0.5


@pytest.mark.parametrize("side", [*shifted.SIDES, 16])
def test_resampling_is_means_over_boxes_enlarged_bilinearly(side):
    weights = shifted._weights(side)
    assert (weights.sum(1) == 256).all()
    assert (weights >= 0).all()
    if side == 32:
        assert np.array_equal(weights, 256 * np.eye(32))
    signal = pictures(1)[0, 0, :1].float().reshape(1, 1, 1, 32)
    fine = signal.repeat_interleave(side, dim=3)  # so that boxes have whole pixels
    small = fine.reshape(1, 1, 1, side, 32).mean(4)
    large = torch.nn.functional.interpolate(
        small, (1, 32), mode="bilinear", align_corners=False
    ).flatten()
    mine = torch.from_numpy(weights / 256) @ signal.flatten()
    assert torch.allclose(mine, large, atol=3)  # weights are rounded to 256ths


def test_colours_are_mixed_and_gray_stays_gray(monkeypatch):
    for name, value in (("SIDES", (32,)), ("CONTRAST", (1, 1)), ("CURVE", (0, 0)),
                        ("NOISE", (0, 0))):  # fmt: skip
        monkeypatch.setattr(shifted, name, value)
    gray = pictures(20)[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(shifted.shift(gray, 0), gray)
    red = torch.zeros(20, 3, 32, 32, dtype=torch.uint8)
    red[:, 0] = 255
    channels = shifted.shift(red, 0).float().mean((2, 3))
    assert (channels[:, 0] >= 255 * (1 - shifted.MIX) - 1).all()
    assert channels[:, 1:].mean() > 255 * shifted.MIX / 6
    monkeypatch.setattr(shifted, "MIX", 0.0)
    colour = pictures(20)
    assert torch.equal(shifted.shift(colour, 0), colour), "without any change it is the picture"


@pytest.mark.parametrize(
    "images", [pictures(2).float(), pictures(2)[:, :1], pictures(2)[0], pictures(2)[..., :28]]
)
def test_other_images_are_refused(images):
    with pytest.raises(InputError, match="uint8 images"):
        shifted.shift(images, 0)


def test_as_many_positions_as_images():
    with pytest.raises(InputError, match="give one each"):
        shifted.shift(pictures(2), 0, torch.arange(3))


# --- the data set


def test_it_is_registered_as_a_substitute():
    entry, original = registry.get("cifar10-shifted"), registry.get("cifar10")
    assert entry.splits == original.splits == ("train", "test")
    assert {form.fidelity for form in entry.forms} == {"substitute"}
    assert [form.files for form in entry.forms] == [form.files for form in original.forms]


def test_without_cifar10_it_says_what_to_do(tmp_path, no_data_root):
    with pytest.raises(MissingDataError) as caught:
        data.load("cifar10-shifted", "test", tmp_path)
    for part in ("'cifar10-shifted'", "test_batch", "--data-root", "lla data fetch"):
        assert part in str(caught.value)


def test_a_part_has_the_pictures_of_the_whole_at_its_positions(tmp_path, expect):
    images, labels, index = pictures(5), [3, 1, 4, 1, 5], [0, 2, 7, 8, 40]
    path = tmp_path / "cifar10" / "cifar10_lossless_subset.npz"
    path.parent.mkdir()
    np.savez(path, train_x=images, train_y=labels, train_index=index, test_x=images, test_y=labels)
    file = File(path.name, file_hash(path, "sha256"))
    for name in ("cifar10", "cifar10-shifted"):
        expect(name, 1, {"train": (file,), "test": (file,)})

    train, test = (data.load("cifar10-shifted", split, tmp_path) for split in ("train", "test"))
    whole = torch.zeros(41, 3, 32, 32, dtype=torch.uint8)
    whole[index] = images
    assert torch.equal(train.images, shifted.shift(whole, shifted.SEEDS["train"])[index])
    assert torch.equal(test.images, shifted.shift(images, shifted.SEEDS["test"]))
    assert train.labels.tolist() == test.labels.tolist() == labels
    assert (train.name, train.fidelity) == ("cifar10-shifted", "substitute")
    assert "CINIC-10-i" in train.note


@pytest.mark.parametrize("split", ["train", "test"])
def test_real_labels_are_cifar10_s(lla_data, split):
    original, changed = (load(name, split, lla_data) for name in ("cifar10", "cifar10-shifted"))
    assert torch.equal(original.labels, changed.labels)
    assert original.images.shape == changed.images.shape
    assert original.sha256 != changed.sha256


@torch.no_grad()
def test_a_network_trained_on_cifar10_loses_about_40_points(lla_data):
    weights = Path(lla_data) / "weights" / "resnet20-12fca82f.th"
    if not weights.exists():
        pytest.skip("the data root has no weights of ResNet20")
    model = models.build("resnet20")
    models.load_weights(model, weights)
    model.eval()

    def accuracy(name):
        found = load(name, "test", lla_data)
        pairs = data.batches(found, 500, **models.preprocessing("resnet20"))
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs[:4])
        return right / sum(len(y) for _, y in pairs[:4])

    assert accuracy("cifar10") > 0.9
    assert 0.45 < accuracy("cifar10-shifted") < 0.65


def load(name, split, root):
    try:
        return data.load(name, split, root)
    except MissingDataError as error:
        pytest.skip(str(error))
