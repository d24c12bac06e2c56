"""The only place where lla imports torchvision.

The torchvision wheel of the package index is linked to CUDA. Beside a CPU build of torch its
operators cannot load, and `import torchvision` then stops where it registers a fake kernel for
`torchvision::nms`, an operator that nobody has declared. Declaring the schemas is enough: the
models, transforms and data sets call none of these operators.
"""

import importlib
import sys
import threading
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_lock = threading.Lock()
_library: torch.library.Library | None = None  # kept alive: the schemas vanish with it


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring its two operators first where the plain import needs that.

    Call it before any import of torchvision, or of timm, which imports torchvision. Later calls
    only return the same module.

    Returns:
        The module `torchvision`; its submodules (`datasets`, `models`, `transforms`) are loaded.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: The import failed for a reason other than an undeclared operator.
    """
    with _lock:
        try:
            return _import()
        except RuntimeError as error:
            message = str(error)
            if "operator torchvision::" not in message or "does not exist" not in message:
                raise
        _declare()
        return _import()


def _import() -> ModuleType:
    if "torchvision" not in sys.modules:
        # A failed import removes the package from sys.modules but not the submodules that were
        # loaded already, and a second import fails because of them.
        for name in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[name]
    return importlib.import_module("torchvision")


def _declare() -> None:
    global _library
    if _library is None:
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in _SCHEMAS:
            _library.define(schema)
