"""Inputs for the cost of section 3.4: networks, batches, and data sets for accuracy passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from benchmarks.problems import Pairs
from lla import data, training
from lla._torchvision import import_torchvision
from lla.data import ImageSet, PicturePreprocessing, PictureSet
from lla.errors import MissingDataError
from lla.models import build, picture_preprocessing, preprocessing, pretrained
from paper_tables.engine.records import Source

SIDE = 32  # of LeNet's input; digits are zero-padded to this
EPOCHS = 20  # of LeNet's short training on few images, if no weights are found
FEW = 10_000  # sets with fewer images take `EPOCHS`; 2 are enough for larger ones


@dataclass(frozen=True)
class Input:
    """A network with the data that it is measured on."""

    model: nn.Module  # on the device, in eval mode
    pairs: Pairs  # batches of the criteria, on the device
    example: Callable[[int], tuple[Tensor, int]]  # an example of the accuracy pass, by its index
    count: int  # number of examples in that pass
    data: Source
    weights: Source
    fidelity: str  # paper, reduced or substitute
    note: str

    def loader(self) -> Iterator[tuple[Tensor, Tensor]]:
        """An ordinary DataLoader, which reads and prepares examples one by one in this process."""

        def batch(indices: list[int]) -> Any:
            return default_collate([self.example(index) for index in indices])

        size = len(self.pairs[0][1])
        return iter(DataLoader(range(self.count), batch_size=size, collate_fn=batch))  # type: ignore[arg-type]

    def resident(self) -> Iterator[tuple[Tensor, Tensor]]:
        """As many examples in batches on the device; the same batches are repeated."""
        left = self.count
        for x, y in cycle(self.pairs):
            if left <= 0:
                return
            yield x[:left], y[:left]
            left -= len(y)


@torch.no_grad()
def accuracy(model: nn.Module, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of right answers over all batches, in the obvious way."""
    device = next(model.parameters()).device
    right = total = 0
    for x, y in pairs:
        right += (model(x.to(device)).argmax(1) == y.to(device)).sum()
        total += len(y)
    return float(right) / total


def make(
    network: str, batch_size: int, batches: int, side: int, examples: int | None, device: str
) -> Input:
    """The input of a network.

    Args:
        network: `lenet`, `resnet20` for CIFAR-10, or a network for photographs.
        batch_size: of the criteria; fewer where the data set has too few examples.
        batches: of the criteria; fewer batches where there are too few photographs.
        side: of photographs, pixels.
        examples: of an accuracy pass; None takes the whole data set.
        device: where to put network and batches.
    """
    if network == "lenet":
        return _lenet(batch_size, batches, examples, device)
    if network == "resnet20":
        return _resnet20(batch_size, batches, examples, device)
    return _photographs(network, batch_size, batches, side, examples, device)


# --- LeNet on digits


def _lenet(batch_size: int, batches: int, examples: int | None, device: str) -> Input:
    try:
        images = data.load("mnist", "train")
    except MissingDataError:
        images = data.load("digits", "train")
    model, weights, note = _lenet_weights(images)
    stand_in = images.name != "mnist"
    size = min(batch_size, len(images) // batches)
    return Input(
        model.to(device).eval(),
        data.batches(images, size, batches, seed=0, size=SIDE, device=device),
        _digit(images),
        min(examples or len(images), len(images)),
        Source(images.name, images.sha256),
        weights,
        "substitute" if stand_in else "reduced",
        f"{images.name} stand in for MNIST; {note}" if stand_in else note,
    )


def _lenet_weights(images: ImageSet) -> tuple[nn.Module, Source, str]:
    """Weights for MNIST if they are found, else those of a short training."""
    if images.name == "mnist":
        try:
            found = pretrained("lenet")
            return found.model, Source(found.file, found.sha256), found.note
        except MissingDataError:
            pass
    (pair,) = data.batches(images, len(images), size=SIDE)
    model, epochs = build("lenet", seed=0), EPOCHS if len(images) < FEW else 2
    result = training.train(model, pair, epochs=epochs, seed=0)
    note = f"LeNet trained for {epochs} epochs on {images.name}"
    return model, Source("lenet trained for the benchmark", result.weights_sha256), note


def _digit(images: ImageSet) -> Callable[[int], tuple[Tensor, int]]:
    """A digit as torchvision's data sets give it: a Pillow picture, then transforms."""
    transforms = import_torchvision().transforms
    room = SIDE - images.images.shape[-1]
    padding = (room // 2, room // 2, room - room // 2, room - room // 2)
    to_picture = transforms.ToPILImage()
    prepare = transforms.Compose([transforms.Pad(padding), transforms.ToTensor()])
    return lambda index: (prepare(to_picture(images.images[index])), int(images.labels[index]))


# --- ResNet20 on CIFAR-10


def _resnet20(batch_size: int, batches: int, examples: int | None, device: str) -> Input:
    try:
        images = data.load("cifar10", "test")
    except MissingDataError:
        images = data.load("rendered-digits", "test")
    try:
        found = pretrained("resnet20")
        model, note, weights = found.model, found.note, Source(found.file, found.sha256)
    except MissingDataError:
        model, note, weights = _at_initialisation("resnet20", 10)
    options = preprocessing("resnet20")
    size = min(batch_size, len(images) // batches)

    def example(index: int) -> tuple[Tensor, int]:
        (x,) = data.to_input(images.images[index : index + 1], **options)
        return x, int(images.labels[index])

    stand_in = images.name != "cifar10"
    return Input(
        model.to(device).eval(),
        data.batches(images, size, batches, seed=0, device=device, **options),
        example,
        min(examples or len(images), len(images)),
        Source(images.name, images.sha256),
        weights,
        "substitute" if stand_in else "reduced",
        f"{images.name} stand in for CIFAR-10; {note}" if stand_in else note,
    )


def _at_initialisation(network: str, classes: int) -> tuple[nn.Module, str, Source]:
    model = build(network, num_classes=classes, seed=0)
    weights = Source(f"{network}, torch init, seed 0", training.weights_sha256(model))
    return model, "at initialisation: no weights are found", weights


# --- networks for photographs


def _photographs(
    network: str, batch_size: int, batches: int, side: int, examples: int | None, device: str
) -> Input:
    try:
        pictures = data.load_pictures("imagenet")
    except MissingDataError:
        pictures = data.load_pictures("sample-crops")
    try:
        found = pretrained(network)
        model, note, weights = found.model, found.note, Source(found.file, found.sha256)
    except MissingDataError:
        model, note, weights = _at_initialisation(network, pictures.classes)
    prepare = picture_preprocessing(network, side)
    batch_size = min(batch_size, len(pictures))
    count = min(batches, len(pictures) // batch_size)
    cut = data.picture_batches(pictures, prepare, batch_size, count, seed=0, device=device)
    return Input(
        model.to(device).eval(),
        cut.pairs,
        _photograph(pictures, prepare),
        examples or len(pictures),
        Source(pictures.name, cut.sha256),
        weights,
        "substitute" if pictures.fidelity == "substitute" else "reduced",
        note,
    )


def _photograph(
    pictures: PictureSet, prepare: PicturePreprocessing
) -> Callable[[int], tuple[Tensor, int]]:
    """A picture, decoded from its file and prepared; the few files are repeated."""

    def example(index: int) -> tuple[Tensor, int]:
        index %= len(pictures)
        picture, _ = data.read_rgb(pictures.folder / pictures.files[index])
        if pictures.boxes is not None:
            picture = picture.crop(pictures.boxes[index])
        return prepare(picture), int(pictures.labels[index])

    return example
