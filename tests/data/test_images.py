import numpy as np
import pytest
import torch
from PIL import Image

from lla.data import ImageSet, batches, content_sha256, to_grayscale, to_input
from lla.errors import InputError


def image_set(count=10, channels=1, side=4):
    images = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    images = images.expand(count, channels, side, side).contiguous()
    labels = torch.arange(count) % 10
    return ImageSet(images, labels, "some", "train", "bundled", "paper", "", "", 10)


def random_rgb(count=7, side=5):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_grayscale_is_pillow_s_luma():
    images = random_rgb(side=16)
    gray = to_grayscale(images)
    for rgb, mine in zip(images, gray, strict=True):
        theirs = Image.fromarray(rgb.permute(1, 2, 0).contiguous().numpy()).convert("L")
        assert np.array_equal(mine[0].numpy(), np.asarray(theirs))
    with pytest.raises(InputError, match=r"\[7, 1, 16, 16\]"):
        to_grayscale(gray)


def test_grayscale_of_more_images_than_a_slice():
    images = random_rgb(1, 1).expand(5000, 3, 1, 1).contiguous()
    assert to_grayscale(images).unique().numel() == 1


def test_input_is_padded_before_it_is_normalised():
    images = torch.full((2, 1, 28, 28), 255, dtype=torch.uint8)
    x = to_input(images, size=32, mean=0.5, std=0.25, dtype=torch.float64)
    assert x.shape == (2, 1, 32, 32)
    assert x.dtype == torch.float64
    assert (x[:, :, :2] == -2).all()
    assert (x[:, :, :, -2:] == -2).all()
    assert (x[:, :, 2:-2, 2:-2] == 2).all()


def test_odd_padding_goes_right_and_below():
    x = to_input(torch.full((1, 1, 2, 3), 255, dtype=torch.uint8), size=5)
    assert torch.equal(x[0, 0, :, 1], torch.tensor([0.0, 1, 1, 0, 0]))
    assert torch.equal(x[0, 0, 1], torch.tensor([0.0, 1, 1, 1, 0]))


def test_mean_and_std_go_by_channel():
    images = random_rgb()
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)
    x = to_input(images, mean=mean, std=std, dtype=torch.float64)
    for channel in range(3):
        expected = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        assert torch.allclose(x[:, channel], expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 4}, "cannot be padded to 4"),
        ({"mean": (0.1, 0.2)}, "mean has 2 values"),
        ({"std": 0.0}, "std must be positive"),
        ({"dtype": torch.int64}, "floating"),
    ],
)
def test_bad_input_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        to_input(random_rgb(), **arguments)
    with pytest.raises(InputError, match="uint8"):
        to_input(random_rgb().float())


def test_batches_in_order_have_every_image_and_a_short_last_batch():
    cut = batches(image_set(10), batch_size=4)
    assert [len(y) for _, y in cut] == [4, 4, 2]
    assert torch.equal(torch.cat([y for _, y in cut]), torch.arange(10))
    x, y = cut[-1]
    assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), y)


def test_batches_by_seed_are_drawn_without_replacement():
    chosen = [torch.cat([y for _, y in batches(image_set(10), 3, 2, seed=s)]) for s in range(5)]
    again = torch.cat([y for _, y in batches(image_set(10), 3, 2, seed=0)])
    assert torch.equal(chosen[0], again)
    assert all(len(y.unique()) == 6 for y in chosen)
    assert len({tuple(y.tolist()) for y in chosen}) > 1


def test_batches_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    batches(image_set(10), 3, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_take_the_arguments_of_the_input():
    ((x, y),) = batches(
        image_set(2), 2, dtype=torch.float64, size=6, mean=1.0, std=2.0, device="cpu"
    )
    assert x.shape == (2, 1, 6, 6)
    assert x.dtype == torch.float64
    assert x[0, 0, 0, 0] == -0.5
    assert y.dtype == torch.int64


def test_too_few_images_or_none_asked_for():
    with pytest.raises(InputError, match="has 10 images, but 3 batches of 4 need 12"):
        batches(image_set(10), 4, 3)
    with pytest.raises(InputError, match="from 1"):
        batches(image_set(10), 0)
    with pytest.raises(InputError, match="from 1"):
        batches(image_set(10), 1, 0)


def test_content_hash_sees_images_and_labels():
    a = image_set(3)
    same = content_sha256(a.images.clone(), a.labels.clone())
    assert content_sha256(a.images, a.labels) == same
    assert content_sha256(a.images, a.labels + 1) != same
    assert content_sha256(a.images + 1, a.labels) != same
    assert content_sha256(a.images.transpose(2, 3), a.labels) == same  # equal content
