"""How much is computed: the paper's settings, and a quick version for a laptop."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

PAPER_EPOCHS = 1000  # what the paper trains for, section 4


@dataclass(frozen=True)
class Pictures:
    """Settings of criteria for networks on photographs, which cost far more than LeNet."""

    batches: int
    batch_size: int
    side: int  # of the pictures, pixels
    probes: int  # random vectors a batch
    steps: int  # Lanczos steps a probe
    variants: bool  # also a uniform initialisation and the imitated public code


@dataclass(frozen=True)
class TrainingRuns:
    """Settings of the training runs of section 4, and of what is measured along them."""

    real: bool  # run on the data sets that are found; else only on the bundled digits
    epochs: int
    measured: int  # epochs at which criteria are measured, besides epoch 0
    curve: int  # epochs at which accuracy and loss are measured, besides epoch 0
    batches: int
    batch_size: int  # of LeNet's criteria; ResNet20, whose products take longer, has an eighth
    probes: int
    steps: int


@dataclass(frozen=True)
class Profile:
    """Settings of one run of the suites."""

    name: str
    batches: int  # batches that LeNet's criteria are averaged over
    batch_size: int
    probes: int  # random vectors a batch
    steps: int  # Lanczos steps a probe
    criteria: Pictures  # the same for the other networks
    runs: TrainingRuns
    epochs: int  # most epochs of training
    target_accuracy: float | None  # training stops here; None: after `epochs`
    download: bool  # whether a data set that is not found is fetched
    images: int  # in the single batch of a loss plane
    side: int  # pixels along a side of its pictures
    trained_side: int  # the same for trained networks, which recognise nothing in small pictures
    points: int  # of a loss plane, per direction: a subset of the 41
    planes: int  # with random directions of seeds 0, 1, ...
    early_stop: bool  # a plane that explodes at its corners is not computed further
    every_plane: bool  # also planes that no claim needs, and planes of the largest networks
    eigen_tol: float  # relative residual of the eigenvectors of Hessian axes
    eigen_steps: int  # most Lanczos steps for these eigenvectors
    small_vit: bool  # a small vision transformer stands in for ViT-B
    seed: int = 0  # of batches and probes of criteria; weights have a fixed seed
    study: bool = False  # also run the studies, such as that of normalizations

    def is_the_papers(self) -> bool:
        """Whether criteria computed with these settings have the paper's fidelity.

        More probes or batches than the paper's only narrow the error bar. Steps and batch size
        are part of what is measured and must be equal.
        """
        paper = PROFILES["paper"]
        return (
            (self.steps, self.batch_size) == (paper.steps, paper.batch_size)
            and self.probes >= paper.probes
            and self.batches >= paper.batches
        )


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="quick",
            batches=4,  # instead of more probes, because the error bar is over batches
            batch_size=128,
            probes=1,
            steps=100,
            criteria=Pictures(batches=2, batch_size=4, side=64, probes=1, steps=12, variants=False),
            runs=TrainingRuns(
                real=False,
                epochs=20,
                measured=3,
                curve=12,
                batches=3,
                batch_size=64,
                probes=1,
                steps=100,
            ),
            epochs=40,
            target_accuracy=0.99,
            download=False,
            images=4,
            side=64,
            trained_side=128,
            points=5,
            planes=1,
            early_stop=True,
            every_plane=False,
            eigen_tol=0.1,
            eigen_steps=25,
            small_vit=True,
        ),
        Profile(
            name="paper",
            batches=4,
            batch_size=2048,
            probes=10,
            steps=100,
            criteria=Pictures(
                batches=4, batch_size=64, side=224, probes=10, steps=100, variants=True
            ),
            runs=TrainingRuns(
                real=True,
                epochs=PAPER_EPOCHS,
                measured=20,
                curve=100,
                batches=4,
                batch_size=2048,
                probes=10,
                steps=100,
            ),
            epochs=40,
            target_accuracy=0.995,
            download=True,
            images=64,
            side=224,
            trained_side=224,
            points=41,
            planes=3,
            early_stop=False,
            every_plane=True,
            eigen_tol=0.01,
            eigen_steps=100,
            small_vit=False,
        ),
    )
}


def adjusted(profile: Profile, **changes: int | None) -> Profile:
    """A profile with some settings replaced.

    Args:
        profile: where to start.
        changes: settings by name; None leaves one as it is. `batches`, `probes` and `steps` hold
            for all networks, `images` and `side` for planes and criteria. With `epochs` training
            runs for exactly that many, whatever accuracy it reaches.

    Returns:
        The new profile, named `custom` if anything differs.

    >>> adjusted(PROFILES["quick"], probes=5, steps=None).probes
    5
    """
    given = {name: value for name, value in changes.items() if value is not None}
    of_runs: dict[str, Any] = {
        name: given[name]
        for name in ("epochs", "batches", "batch_size", "probes", "steps")
        if name in given
    }
    of_runs |= {name: given.pop(name) for name in ("real", "measured") if name in given}
    of_pictures: dict[str, Any] = {
        {"images": "batch_size"}.get(name, name): given[name]
        for name in ("batches", "images", "side", "probes", "steps")
        if name in given
    }
    if "variants" in given:
        of_pictures["variants"] = given.pop("variants")
    new = dataclasses.replace(profile, **given)  # type: ignore[arg-type]
    new = dataclasses.replace(new, criteria=dataclasses.replace(new.criteria, **of_pictures))
    new = dataclasses.replace(new, runs=dataclasses.replace(new.runs, **of_runs))
    if "side" in given:
        new = dataclasses.replace(new, trained_side=new.side)
    if "epochs" in given:
        new = dataclasses.replace(new, target_accuracy=None)
    return new if new == profile else dataclasses.replace(new, name="custom")
