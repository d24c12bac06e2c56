"""The criteria of LeNet on its batches, which Table 2 and the spread over probes share."""

from __future__ import annotations

from typing import Any

import lla
from lla.hessian.products.routes import RouteName
from paper_tables.engine.cells import Settings
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets, lenet, training
from paper_tables.inputs.lenet import Stage
from paper_tables.measure import spectra

ROUTE: RouteName = "linearized"  # fixed: routes round differently


def state_config(settings: Settings, state: Stage) -> dict[str, Any]:
    """Everything that determines LeNet and its batches."""
    image_set = lenet.images(settings)
    profile = lenet.fitted(settings.profile, image_set)
    config: dict[str, Any] = {
        "model": "lenet",
        "state": state,
        "init_seed": training.SEED,
        **image_sets.config_of(image_set),
        "size": lenet.SIZE,
        "batches": profile.batches,
        "batch_size": profile.batch_size,
        "seed": profile.seed,
        "dtype": "float32",
    }
    if state != "random":
        config["training"] = lenet.training_config(settings)
    if state == "during":
        config["epoch"] = lenet.during_epoch(settings)
    return config


def config_of(
    settings: Settings, state: Stage, mode: str = "eval", init: str = "torch", legacy: bool = False
) -> dict[str, Any]:
    """The configuration of LeNet's criteria."""
    profile = settings.profile
    chosen = spectra.criteria_config(mode, profile.steps, profile.probes, ROUTE, legacy)
    return {**state_config(settings, state), "init": init, **chosen}


def fidelity_of(settings: Settings, state: Stage) -> str:
    """How faithful to the paper LeNet's criteria are."""
    image_set = lenet.images(settings)
    return lenet.fidelity(lenet.fitted(settings.profile, image_set), image_set, state)


def inputs_of(settings: Settings, config: dict[str, Any]) -> str:
    """The input of a cell in words."""
    found = lenet.images(settings)
    stand_in = "" if found.name == "mnist" else " (stand-in: MNIST was not found)"
    return (
        f"{found.name} {found.split}{stand_in}, {config['batches']} x "
        f"{config['batch_size']} images, {config['probes']} probes, m {config['m']}"
    )


@session_cached(size=16)
def criteria(settings: Settings, state: Stage, init: str, legacy: bool) -> lla.Criteria:
    """LeNet's criteria, computed once: without BatchNorm and dropout both modes are one function.

    Args:
        settings: of the session.
        state: of its weights.
        init: how random weights are drawn.
        legacy: imitate the authors' public code.
    """
    model, _, _ = lenet.network(settings, state, init)
    config = config_of(settings, state, "eval", init, legacy)
    return spectra.measured(settings, model, lenet.batches(settings).pairs, config)
