"""Data sets by name, with checksums, and the batches cut from them."""

from lla.data import sets as _sets  # noqa: F401  fills the registry
from lla.data.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageSet,
    batches,
    content_sha256,
    to_grayscale,
    to_input,
)
from lla.data.loading import Availability, FileCheck, describe, fetch, load, verify
from lla.data.picture_batches import (
    PictureBatches,
    PicturePreprocessing,
    picture_batches,
)
from lla.data.picture_checks import PictureCheck, check_pictures
from lla.data.picture_files import read_rgb
from lla.data.picture_folders import wnids
from lla.data.pictures import (
    PictureSet,
    describe_pictures,
    load_pictures,
    picture_names,
    read_pictures,
)
from lla.data.registry import DataSet, Download, File, Form, names, register

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Availability",
    "DataSet",
    "Download",
    "File",
    "FileCheck",
    "Form",
    "ImageSet",
    "PictureBatches",
    "PictureCheck",
    "PicturePreprocessing",
    "PictureSet",
    "batches",
    "check_pictures",
    "content_sha256",
    "describe",
    "describe_pictures",
    "fetch",
    "load",
    "load_pictures",
    "names",
    "picture_batches",
    "picture_names",
    "read_pictures",
    "read_rgb",
    "register",
    "to_grayscale",
    "to_input",
    "verify",
    "wnids",
]
