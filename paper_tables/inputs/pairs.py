"""The pairs of data sets of section 4: a network is trained on one and tested on the other too.

A profile that trains on real data takes what is found: if need be SVHN's first images, or a
recoloured CIFAR-10 in place of CINIC-10-i. In other profiles the bundled digits stand in for MNIST
and SVHN.
"""

from __future__ import annotations

from dataclasses import dataclass

from lla import data
from lla.data import ImageSet
from lla.errors import InputError, MissingDataError
from paper_tables.engine.cells import Settings
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.session import session_cached


@dataclass(frozen=True)
class Pair:
    """A network, the data set that it is trained on, and the other one that it is tested on."""

    row: str  # of the network
    trained_on: str  # by the paper's name
    other: str

    @property
    def name(self) -> str:
        """The name of the pair, such as "mnist-svhn"."""
        return f"{self.trained_on}-{self.other}"


PAIRS = (
    Pair("lenet", "mnist", "svhn"),
    Pair("lenet", "svhn", "mnist"),
    Pair("resnet20", "cifar10", "cinic10-i"),
    Pair("resnet20", "cinic10-i", "cifar10"),
)

# Paper's name -> names in the registry, the most faithful first. LeNet sees shades of grey.
REAL = {
    "mnist": ("mnist",),
    "svhn": ("svhn-gray",),
    "cifar10": ("cifar10",),
    "cinic10-i": ("cinic10-i", "cifar10-shifted"),
}
BUNDLED = {"mnist": ("digits",), "svhn": ("rendered-digits-gray",)}


@dataclass(frozen=True)
class Images:
    """The images that were found for a pair."""

    train: ImageSet  # of the set it is trained on
    test: ImageSet | None  # that set's own test split; None where there is none
    other: ImageSet  # the test split of the other set, or the part that is there

    @property
    def fidelity(self) -> str:
        """The fidelity of the less faithful set; the own test split does not count."""
        return least_faithful((self.train.fidelity, self.other.fidelity))


@session_cached()
def images(settings: Settings, pair: Pair) -> Images:
    """Load the images of a pair.

    Raises:
        MissingDataError: a data set is not found, and nothing stands in for it.
        InputError: the two sets do not have the same classes.
    """
    return checked(
        Images(
            train=_load(settings, pair.trained_on, ("train",)),
            test=_own_test(settings, pair.trained_on),
            other=_load(settings, pair.other, ("test", "train")),
        )
    )


def checked(found: Images) -> Images:
    """Return the images unchanged, after a check of their classes.

    Raises:
        InputError: the two sets do not have the same classes.
    """
    if found.train.classes != found.other.classes:
        raise InputError(
            f"{found.train.name} has {found.train.classes} classes and {found.other.name} "
            f"{found.other.classes}: generalization needs two sets of the same classes."
        )
    return found


def _own_test(settings: Settings, name: str) -> ImageSet | None:
    try:
        return _load(settings, name, ("test",))
    except MissingDataError:
        return None


@session_cached()
def _load(settings: Settings, name: str, splits: tuple[str, ...]) -> ImageSet:
    """The first form and split of a set that is found; if there is none, the last one's error."""
    names = (REAL if settings.profile.runs.real else BUNDLED).get(name, ())
    if not names:
        raise MissingDataError(
            f"nothing bundled stands in for {name}: --real-data takes what is found"
        )
    root, download = settings.data_root, settings.download
    choices = [(found, split) for found in names for split in splits]
    for found, split in choices[:-1]:
        try:
            return data.load(found, split, root, download=download)
        except MissingDataError:
            continue
    return data.load(*choices[-1], root, download=download)
