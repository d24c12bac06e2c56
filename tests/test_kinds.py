"""The networks of docs/howto/kinds.md, in three lines each: as their explicit Hessians say."""

import copy
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import lla
from lla._torchvision import import_torchvision

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "kinds.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
EXAMPLES = [code for code in CODE if "lla.criteria" in code]
BEFORE = {  # what each example needs: the blocks before it that hold none
    code: [other for other in CODE[: CODE.index(code)] if other not in EXAMPLES]
    for code in EXAMPLES
}
KINDS = [code.split("=")[1].strip().split("(")[0].removeprefix("nn.") for code in EXAMPLES]


class HardSigmoid(nn.Module):
    """nn.Hardsigmoid, of which PyTorch has no second derivative, from functions that have one."""

    def forward(self, x):
        return F.relu6(x + 3) / 6


def own_loss(model, batch):
    """The mean loss of an example, by a call of the model as it is."""
    if isinstance(batch, dict):
        return lambda: model(**batch).loss
    return lambda: last(model(batch[0]), batch[1])


def last(output, y):
    """Mean cross-entropy of logits, or of the last step of what an LSTM returns."""
    return F.cross_entropy(output[0][:, -1] if isinstance(output, tuple) else output, y)


def in_double(batch):
    """A batch whose floating-point tensors are float64."""
    items = batch.items() if isinstance(batch, dict) else enumerate(batch)
    found = {key: t.double() if t.is_floating_point() else t for key, t in items}
    return found if isinstance(batch, dict) else tuple(found.values())


@pytest.mark.parametrize("code", EXAMPLES, ids=KINDS)
def test_three_lines_give_the_criteria_of_the_explicit_hessian(cases, code):
    assert len(code.strip().splitlines()) == 3
    before = "".join(BEFORE[code])
    if "transformers" in before:
        pytest.importorskip("transformers", reason="transformers is not installed")
    import_torchvision()  # timm and transformers import it
    names: dict = {}
    exec(before + code, names)
    model, mode = names["model"].double(), "train" if "train" in code else "eval"
    batch = in_double(names["batches"][0])
    loss = last if isinstance(batch, tuple) else None
    problem = lla.Problem(model, [batch], loss, mode, weights=[1] if "weights" in code else None)

    plain = copy.deepcopy(model).train(mode == "train")
    for name, module in list(plain.named_modules()):
        if isinstance(module, nn.Hardsigmoid):
            plain.set_submodule(name, HardSigmoid())
    with sdpa_kernel(SDPBackend.MATH):
        exact = cases.own_hessian(plain, own_loss(plain, batch))

    values = torch.linalg.eigvalsh((exact + exact.T) / 2)
    assert names["crit"].re.value == pytest.approx((-values[0] / values[-1]).item(), rel=1e-3)
    V = torch.randn(len(exact), 2, dtype=torch.float64)
    # transformers computes the loss of a language model in float32
    accuracy = 1e-6 if "GPT2" in code else 1e-10
    error = (lla.HessianOperator(problem) @ V - exact @ V).norm()
    assert error < accuracy * exact.norm() * V.norm()
