"""Sets of images as configurations and records name them, and batches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lla import data, models
from lla.data import ImageSet, PictureBatches, PictureSet
from lla.files import sha256_of_bytes, sha256_of_parts
from paper_tables.engine.cells import Settings
from paper_tables.engine.records import Source


@dataclass(frozen=True)
class Batches:
    """Batches of a network, and what records say of them."""

    pairs: list[tuple[Tensor, Tensor]]  # x [batch_size, C, H, W], y [batch_size]
    source: Source  # the set
    sha256: str  # of the examples that were drawn

    def facts(self, weights: Source) -> dict[str, Any]:
        """The fields of a record that name its inputs."""
        return {"data": self.source, "batch_sha256": self.sha256, "weights": weights}


def source_of(found: ImageSet | PictureSet) -> Source:
    """The name and the digest of a set; for pictures, of the list of files and labels."""
    if isinstance(found, ImageSet):
        return Source(found.name, found.sha256)
    pairs = zip(found.files, found.labels.tolist(), strict=True)
    listing = "\n".join(f"{file} {label}" for file, label in pairs)
    return Source(found.name, sha256_of_bytes(listing))


def config_of(found: ImageSet | PictureSet) -> dict[str, Any]:
    """The part of a cell's configuration that describes a set."""
    return {"data": found.name, "split": found.split, "data_sha256": source_of(found).sha256}


def draw(
    settings: Settings, network: str, image_set: ImageSet, batch_size: int, count: int, seed: int
) -> Batches:
    """Batches drawn without replacement and preprocessed for a network, on the session's device.

    Args:
        settings: of the session.
        network: in lla.models.
        image_set: what to draw from.
        batch_size: images a batch.
        count: of the batches.
        seed: of the draw.
    """
    chosen = models.preprocessing(network)
    pairs = data.batches(image_set, batch_size, count, seed, settings.device, **chosen)
    arrays = (tensor.cpu().contiguous().numpy().data for pair in pairs for tensor in pair)
    return Batches(pairs, source_of(image_set), sha256_of_parts(arrays))


def draw_pictures(
    settings: Settings,
    network: str,
    pictures: PictureSet,
    side: int,
    batch_size: int,
    count: int,
    seed: int,
) -> PictureBatches:
    """Batches of pictures with `side` pixels along a side; other arguments as for `draw`."""
    preprocessing = models.picture_preprocessing(network, side)
    return data.picture_batches(
        pictures, preprocessing, batch_size, count=count, seed=seed, device=settings.device
    )


def of_pictures(drawn: PictureBatches) -> Batches:
    """Batches of pictures, whose files are hashed."""
    return Batches(drawn.pairs, source_of(drawn.pictures), drawn.sha256)
