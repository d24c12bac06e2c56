"""Networks that torchvision and timm build, without weights: the paper's, and EfficientNet-Lite.

Neither library is imported before the first model is built: both take seconds.
"""

from functools import partial
from typing import Any

from torch import nn

from lla._torchvision import import_torchvision
from lla.errors import InputError


def torchvision_model(name: str, num_classes: int = 1000, **options: Any) -> nn.Module:
    """Build a model of `torchvision.models`, randomly initialised.

    Args:
        name: Its name there.
        num_classes: Outputs of the last layer.
        **options: Of its constructor, such as `dropout` of `alexnet`.

    Returns:
        The model, for images [N, 3, H, W]: of 64 x 64 pixels or more for `alexnet`.

    Raises:
        InputError: An option asks for weights.
    """
    _refuse_weights(options)
    models = import_torchvision().models
    return models.get_model(name, weights=None, num_classes=num_classes, **options)


def timm_model(name: str, num_classes: int = 1000, **options: Any) -> nn.Module:
    """Build a model of `timm`, randomly initialised.

    Args:
        name: Its name there.
        num_classes: Outputs of the last layer.
        **options: Of its constructor, such as `img_size` of the vision transformers (224 by
            default; a multiple of the patch of 16) or `pad_type` of `mobilenetv2_100`.

    Returns:
        The model, for images [N, 3, H, W].

    Raises:
        InputError: An option asks for weights.
    """
    _refuse_weights(options)
    import_torchvision()  # timm imports it
    import timm

    return timm.create_model(name, pretrained=False, num_classes=num_classes, **options)


def _refuse_weights(options: dict[str, Any]) -> None:
    for name in ("weights", "pretrained", "weights_backbone", "checkpoint_path"):
        if name in options:
            raise InputError(
                f"{name!r} is not an option of a randomly initialised model: "
                "lla.models.pretrained gives models with weights."
            )


TORCHVISION = ("resnet18", "resnet50", "alexnet", "squeezenet1_1", "mobilenet_v2")
VISION_TRANSFORMERS = ("vit_base_patch16_224", "vit_tiny_patch16_224")
EFFICIENTNETS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
ZOO = {
    **{name: partial(torchvision_model, name) for name in TORCHVISION},
    **{name: partial(timm_model, name) for name in (*VISION_TRANSFORMERS, "mobilenetv2_100")},
    **{name: partial(timm_model, f"tf_{name}") for name in EFFICIENTNETS},
}
