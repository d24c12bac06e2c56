"""What could make r_e of ResNet18, at random initialisation in train mode, the paper's 451.

Each cell changes one thing: the initialisation or its seed, the labels, BatchNorm's epsilon, the
scale of the last layer, the size of batch and pictures, or the Lanczos process (`legacy`). Few
Lanczos steps are enough for r_e, which needs the outermost eigenvalues alone. Computed with
`--study`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lla import models, training
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Record, Source
from paper_tables.inputs import image_sets, networks
from paper_tables.measure import spectra

TABLE = "resnet_study"
RATIOS = ("re", "kh1", "kh05")
NET = "resnet18"
STEPS = 25
BATCHES = 2


@dataclass(frozen=True)
class Variant:
    """One setting; the defaults are the common starting point."""

    name: str
    init: str = "torch"  # "torch", "uniform" (torch's bounds), "unit" (weights in [0, 1))
    init_seed: int = 0
    labels: str = "true"  # "true", "one class", or "random 1": drawn with that seed
    eps: float = 1e-5  # of BatchNorm
    last_layer: float = 1.0  # factor on the last layer's weights
    images: int = 8
    side: int = 64
    legacy: bool = False
    mode: str = "train"


VARIANTS = (
    Variant("as it is"),
    Variant("eval mode", mode="eval"),
    Variant("initialisation seed 1", init_seed=1),
    Variant("initialisation seed 2", init_seed=2),
    Variant("uniform initialisation", init="uniform"),
    Variant("all weights in [0, 1)", init="unit"),
    Variant("one class", labels="one class"),
    Variant("random labels 1", labels="random 1"),
    Variant("random labels 2", labels="random 2"),
    Variant("random labels 3", labels="random 3"),
    Variant("epsilon 1e-3", eps=1e-3),
    Variant("last layer x 0.1", last_layer=0.1),
    Variant("last layer x 10", last_layer=10.0),
    Variant("4 images", images=4),
    Variant("32 images", images=32),
    Variant("128 pixels", side=128),
    Variant("224 pixels", side=224),
    Variant("64 images, 224 pixels", images=64, side=224),
    Variant("legacy Lanczos", legacy=True),
)


def cells(settings: Settings) -> list[Cell]:
    """The cells of the study, none unless the profile asks for studies."""
    if not settings.profile.study:
        return []
    return [_cell(settings, variant) for variant in VARIANTS]


def _cell(settings: Settings, variant: Variant) -> Cell:
    pictures = networks.pictures(settings)
    size = min(variant.images, len(pictures) // BATCHES)
    changes = dataclasses.asdict(variant)
    del changes["name"], changes["images"]
    config: dict[str, Any] = {
        "model": NET,
        **changes,
        "data": pictures.name,
        "data_sha256": image_sets.source_of(pictures).sha256,
        "m": STEPS,
        "probes": 1,
        "batches": BATCHES,
        "batch_size": size,
        "seed": networks.SEED,
        "dtype": "float32",
        "route": "retained",
    }
    amount = BATCHES * STEPS * size * (variant.side / 224) ** 2
    return Cell(
        table=TABLE,
        row=NET,
        column=variant.name,
        name=f"{NET}-{variant.name.replace(',', '').replace(' ', '-')}",
        metrics=RATIOS,
        config=config,
        fidelity=cell_fidelity(pictures.fidelity, whole=False),
        inputs=f"{BATCHES} x {size} x {variant.side} px of {pictures.name}, m {STEPS}",
        compute=_compute,
        stage=2,
        seconds=2 + 0.25 * amount,
        memory=2**31 + int(size * 3 * 110 * 2**20 * (variant.side / 224) ** 2),
    )


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    model = _model(config).to(settings.device)
    batches = image_sets.draw_pictures(
        settings, NET, networks.pictures(settings), config["side"], config["batch_size"], BATCHES,
        config["seed"],
    )  # fmt: skip
    pairs = [(x, _labels(y, config["labels"], i)) for i, (x, y) in enumerate(batches.pairs)]
    criteria = spectra.measured(settings, model, pairs, config)
    weights = Source(f"{NET}, {cell.column}", training.weights_sha256(model))
    facts = {
        **image_sets.of_pictures(batches).facts(weights),
        "stderr_kind": criteria.stderr_kind,
        "matvecs": criteria.matvecs,
    }
    return [cell.estimated(metric, getattr(criteria, metric), **facts) for metric in RATIOS]


def _model(config: Any) -> nn.Module:
    seed, init = config["init_seed"], config["init"]
    model = models.build(NET, 1000, seed, "torch" if init == "unit" else init)
    with torch.no_grad():
        if init == "unit":
            generator = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator))
        for parameter in model.fc.parameters():  # type: ignore[union-attr]
            parameter.mul_(config["last_layer"])
    for module in model.modules():
        if isinstance(module, networks.BATCHNORM):
            module.eps = config["eps"]
    return model


def _labels(y: Tensor, kind: str, batch: int) -> Tensor:
    if kind == "true":
        return y
    if kind == "one class":
        return torch.zeros_like(y)
    generator = torch.Generator().manual_seed(1000 * int(kind.removeprefix("random ")) + batch)
    return torch.randint(0, 1000, y.shape, generator=generator).to(y.device)
