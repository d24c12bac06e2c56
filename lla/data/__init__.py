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
from lla.data.registry import (
    Availability,
    DataSet,
    Download,
    File,
    FileCheck,
    Form,
    describe,
    fetch,
    load,
    names,
    register,
    verify,
)

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
    "batches",
    "content_sha256",
    "describe",
    "fetch",
    "load",
    "names",
    "register",
    "to_grayscale",
    "to_input",
    "verify",
]
