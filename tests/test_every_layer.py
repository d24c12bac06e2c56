"""Layers, parametrizations and losses of torch, each against differences of plain gradients.

The sweep of issue 14: `lla` multiplies with the Hessian of the user's own model. So H v is compared
with (g(theta + h v) - g(theta - h v)) / 2h, where g is the gradient of a model that `lla` never
sees, by plain backward passes. PyTorch is not asked for a second derivative, since some are wrong
(`weight_norm`) and some are missing.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

import lla
from lla.errors import InputError

SEED = 0  # of dropout masks, the default of `lla.Problem`
STEP = 1e-6  # of a weight, at a probe's element of 1
TOLERANCE = 3e-8  # of |H v|; rounding of gradients over STEP makes 3e-11 to 2e-8 of it


def total_loss(output, y):
    """Cross entropy over all that the model gives for an example, whatever its shape."""
    output = output[0] if isinstance(output, tuple) else output
    return F.cross_entropy(output.flatten(1), y)


def normal(*shape):
    """Inputs for n examples from the normal distribution."""
    return lambda n: torch.randn(n, *shape, dtype=torch.float64)


def uniform(*shape):
    """Numbers in (0, 1) for n examples."""
    return lambda n: torch.rand(n, *shape, dtype=torch.float64)


def whole(below, *shape):
    """Whole numbers from 0 for n examples."""
    return lambda n: torch.randint(below, (n, *shape))


def signs(*shape):
    """Numbers -1 and 1 for n examples."""
    return lambda n: torch.randint(2, (n, *shape)).double() * 2 - 1


VECTORS, LABELS, CLASSES = normal(3), whole(2), whole(3)


@dataclass(frozen=True)
class Case:
    """A model, its data and its loss.

    Args:
        name: of the test.
        model: makes the model.
        x: makes the input, or the tuple of inputs, of n examples.
        y: makes the targets of n examples.
        loss: (output, y) -> the loss.
        mode: of the problem.
        sizes: examples of each batch.
        joint: whether the loss of several batches is that of all examples in one call. Otherwise
            it is the mean over examples of the batches' losses.
        plain: what is done to the model that is differentiated plainly, before it is.
        plain_mode: its mode, if not the problem's.
        constant: elements of the flat parameters that PyTorch takes as a constant, although the
            loss depends on them.
        refused: a regular expression for what the refusal has to name.
    """

    name: str
    model: Callable[[], nn.Module]
    x: Callable[[int], Any] = VECTORS
    y: Callable[[int], Any] = LABELS
    loss: Callable[[Any, Any], torch.Tensor] = total_loss
    mode: str = "eval"
    sizes: tuple[int, ...] = (4, 3)
    joint: bool = False
    plain: Callable[[nn.Module, Any], None] | None = None
    plain_mode: str | None = None
    constant: slice | None = None
    refused: str | None = None

    def make(self):
        """The model in float64, the same in each call, with no weight or statistic at 0 or 1."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = self.model().double()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
                for name, buffer in model.named_buffers():
                    if name.endswith("running_mean"):
                        buffer.normal_(0, 0.3)
                    if name.endswith("running_var"):
                        buffer.uniform_(0.5, 1.5)
        return model

    def batches(self):
        """The batches (x, y)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            return [(self.x(n), self.y(n)) for n in self.sizes]


class Net(nn.Module):
    """Modules with a function that calls them: `Net(lambda m, x: m.a(m.b(x)), a=..., b=...)`."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def dense(*layers, width=4, inside=4):
    """Layers between two linear ones, 3 -> inside, width -> 3."""
    return nn.Sequential(nn.Linear(3, inside), *layers, nn.Linear(width, 3))


def grid(dimensions, *layers):
    """Layers after a convolution to 4 channels, so that their input has weights, and before tanh.

    With tanh, a layer that is linear in its weights has a second derivative of its own.
    """
    first = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1](2, 4, 1)
    return nn.Sequential(first, *layers, nn.Tanh())


def words(embedding):
    """Two embedded words through two more layers."""
    return nn.Sequential(embedding, nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))


LINE, IMAGE, VOLUME = normal(2, 6), normal(2, 5, 5), normal(2, 3, 4, 4)
SEQUENCE, TOKENS, WORDS = normal(4, 3), normal(3, 4), whole(5, 2)


def circular(convolution):
    """A convolution from 4 to 2 channels on a ring."""
    return convolution(4, 2, 3, padding=1, padding_mode="circular")


def reflect(convolution):
    """A convolution from 4 to 2 channels with reflecting borders."""
    return convolution(4, 2, 3, padding=1, padding_mode="reflect")


def transposed():
    """A transposed convolution with everything that it can be given."""
    return nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)


CONVOLUTIONS = [
    Case("conv1d", lambda: grid(1, nn.Conv1d(4, 3, 3)), LINE),
    Case("conv1d circular", lambda: grid(1, circular(nn.Conv1d)), LINE),
    Case("conv2d", lambda: grid(2, nn.Conv2d(4, 3, 3)), IMAGE),
    Case("conv2d strided", lambda: grid(2, nn.Conv2d(4, 2, 3, stride=2, bias=False)), IMAGE),
    Case("conv2d dilated", lambda: grid(2, nn.Conv2d(4, 2, 2, dilation=2)), IMAGE),
    Case("conv2d grouped", lambda: grid(2, nn.Conv2d(4, 2, 3, groups=2)), IMAGE),
    Case("conv2d depthwise", lambda: grid(2, nn.Conv2d(4, 4, 3, groups=4)), IMAGE),
    Case("conv2d same", lambda: grid(2, nn.Conv2d(4, 2, 3, padding="same")), IMAGE),
    Case("conv2d circular", lambda: grid(2, circular(nn.Conv2d)), IMAGE),
    Case("conv2d reflect", lambda: grid(2, reflect(nn.Conv2d)), IMAGE),
    Case("conv3d", lambda: grid(3, nn.Conv3d(4, 2, 2)), VOLUME),
    Case("conv_transpose1d", lambda: grid(1, nn.ConvTranspose1d(4, 2, 3, stride=2)), LINE),
    Case("conv_transpose2d", lambda: grid(2, transposed()), normal(2, 3, 3)),
    Case("conv_transpose3d", lambda: grid(3, nn.ConvTranspose3d(4, 2, 2)), normal(2, 2, 2, 2)),
]


def untracked():
    """A BatchNorm without running statistics."""
    return nn.BatchNorm1d(4, track_running_stats=False)


def tracked():
    """An InstanceNorm with running statistics."""
    return nn.InstanceNorm2d(4, affine=True, track_running_stats=True)


NORMS = [
    *(
        Case(f"{name} {mode}", make, x, mode=mode)
        for mode in ("eval", "train")
        for name, make, x in [
            ("batch_norm1d", lambda: dense(nn.BatchNorm1d(4), nn.Tanh()), normal(3)),
            ("batch_norm2d", lambda: grid(2, nn.BatchNorm2d(4)), IMAGE),
            ("batch_norm3d", lambda: grid(3, nn.BatchNorm3d(4)), VOLUME),
            ("batch_norm untracked", lambda: grid(1, untracked()), LINE),
            ("batch_norm cumulative", lambda: grid(1, nn.BatchNorm1d(4, momentum=None)), LINE),
            ("instance_norm tracked", lambda: grid(2, tracked()), IMAGE),
        ]
    ),
    Case("batch_norm frozen", lambda: grid(2, nn.BatchNorm2d(4).eval()), IMAGE, mode="train",
         plain=lambda model, _: model[1].eval()),
    Case("batch_norm plain", lambda: grid(1, nn.BatchNorm1d(4, affine=False)), LINE, mode="train"),
    Case("instance_norm1d", lambda: grid(1, nn.InstanceNorm1d(4)), LINE),
    Case("instance_norm2d affine", lambda: grid(2, nn.InstanceNorm2d(4, affine=True)), IMAGE),
    Case("instance_norm3d", lambda: grid(3, nn.InstanceNorm3d(4)), VOLUME),
    Case("layer_norm", lambda: dense(nn.LayerNorm(4), nn.Tanh())),
    Case("layer_norm 2d plain", lambda: grid(2, nn.LayerNorm((5, 5), elementwise_affine=False)),
         IMAGE),
    Case("group_norm", lambda: grid(2, nn.GroupNorm(2, 4)), IMAGE),
    Case("rms_norm", lambda: dense(nn.RMSNorm(4), nn.Tanh())),
    Case("local_response_norm", lambda: grid(2, nn.LocalResponseNorm(2, alpha=0.5)), IMAGE),
    Case("cross_map_lrn", lambda: grid(2, nn.CrossMapLRN2d(2, alpha=0.5)), IMAGE,
         refused="CrossMapLRN2d"),
]  # fmt: skip


def cell(module):
    """A recurrent cell that is called for each of four steps."""

    def run(m, x):
        state = None
        for step in x.unbind(1):
            state = m.cell(step, state)
        return state

    return Net(run, cell=module)


def packed(m, x):
    """A network on sequences of lengths 4, 3, 2, ..., packed."""
    lengths = torch.arange(4, 4 - len(x), -1)
    sequences = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    return nn.utils.rnn.pad_packed_sequence(m.net(sequences)[0], True, total_length=4)[0]


def rnn(kind, **options):
    """A recurrent network with three inputs, and three units a layer."""
    return kind(3, 3, batch_first=True, **options)


RECURRENT = [
    Case("rnn", lambda: rnn(nn.RNN), SEQUENCE),
    Case("rnn relu", lambda: rnn(nn.RNN, nonlinearity="relu", bias=False), SEQUENCE),
    Case("lstm", lambda: rnn(nn.LSTM), SEQUENCE),
    Case("lstm two ways, two layers", lambda: rnn(nn.LSTM, bidirectional=True, num_layers=2),
         SEQUENCE),
    Case("lstm projected", lambda: rnn(nn.LSTM, proj_size=2), SEQUENCE),
    Case("lstm dropout", lambda: rnn(nn.LSTM, num_layers=2, dropout=0.3), SEQUENCE, mode="train"),
    Case("gru", lambda: rnn(nn.GRU), SEQUENCE),
    Case("gru two ways, two layers", lambda: rnn(nn.GRU, bidirectional=True, num_layers=2),
         SEQUENCE),
    Case("gru packed", lambda: Net(packed, net=rnn(nn.GRU)), SEQUENCE, sizes=(3, 2)),
    Case("rnn_cell", lambda: cell(nn.RNNCell(3, 3)), SEQUENCE),
    Case("lstm_cell", lambda: cell(nn.LSTMCell(3, 3)), SEQUENCE),
    Case("gru_cell", lambda: cell(nn.GRUCell(3, 3)), SEQUENCE),
]  # fmt: skip


def attends(**options):
    """Attention of two heads over a sequence, with a causal mask."""

    def run(m, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return m.attention(m.key(x), x, x, attn_mask=mask, need_weights=False)[0]

    attention = nn.MultiheadAttention(4, 2, batch_first=True, kdim=3, vdim=3, **options)
    return Net(run, attention=attention, key=nn.Linear(3, 4))


def dot_products(m, x):
    """Causal attention by the function."""
    q, k, v = m.all(x).chunk(3, -1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def transformer(layer, **options):
    """A layer of a transformer, or all of it, for four features and two heads."""
    return layer(4, 2, dim_feedforward=5, batch_first=True, **options)


def pair(n):
    """Two sequences for a decoder."""
    return normal(3, 4)(n), normal(2, 4)(n)


ATTENTION = [
    Case("attention", lambda: attends(), SEQUENCE),
    Case("attention, biases of keys", lambda: attends(add_bias_kv=True, add_zero_attn=True),
         SEQUENCE),
    Case("attention, weights too", lambda: Net(lambda m, x: torch.cat(m.a(x, x, x), 2),
         a=nn.MultiheadAttention(4, 2, batch_first=True)), TOKENS),
    Case("attention dropout", lambda: attends(dropout=0.3), SEQUENCE, mode="train"),
    Case("dot products", lambda: Net(dot_products, all=nn.Linear(3, 12)), SEQUENCE),
    Case("encoder layer", lambda: transformer(nn.TransformerEncoderLayer), TOKENS),
    Case("encoder layer dropout", lambda: transformer(nn.TransformerEncoderLayer, dropout=0.3),
         TOKENS, mode="train"),
    Case("encoder layer gelu", lambda: transformer(nn.TransformerEncoderLayer, activation="gelu",
         norm_first=True), TOKENS),
    Case("decoder layer", lambda: transformer(nn.TransformerDecoderLayer), pair),
    Case("transformer", lambda: transformer(nn.Transformer, num_encoder_layers=1,
         num_decoder_layers=1), pair),
]  # fmt: skip


def renormed(model, batches):
    """The weights as forward passes of the user leave them, which then stay.

    The limit of a row's norm is applied where there are no gradients, so that the loss is a
    function of the weights that come out of it.
    """
    for x, _ in batches:
        model(x)
    model[0].max_norm = None


def tied():
    """An embedding whose weight is that of the output, too."""
    model = words(nn.Embedding(5, 3))
    model.append(nn.Linear(3, 5, bias=False))
    model[-1].weight = model[0].weight
    return model


EMBEDDINGS = [
    Case("embedding", lambda: words(nn.Embedding(5, 3)), WORDS),
    Case("embedding padded", lambda: words(nn.Embedding(5, 3, padding_idx=0)), WORDS,
         constant=slice(3)),
    Case("embedding limited", lambda: words(nn.Embedding(5, 3, max_norm=1.0)), WORDS,
         plain=renormed),
    Case("embedding sparse", lambda: words(nn.Embedding(5, 3, sparse=True)), WORDS),
    Case("embedding tied", tied, WORDS),
    # what it calls a gradient is none: each row of it is divided by how often the word occurs
    Case("embedding by frequency", lambda: words(nn.Embedding(5, 3, scale_grad_by_freq=True)),
         WORDS, plain=lambda model, _: setattr(model[0], "scale_grad_by_freq", False)),
    Case("embedding_bag", lambda: nn.Sequential(nn.EmbeddingBag(5, 3), dense(nn.Tanh())),
         WORDS, refused="embedding_?bag"),
]  # fmt: skip

POOLS = [
    Case("max_pool1d", lambda: grid(1, nn.MaxPool1d(2)), LINE),
    Case("max_pool2d", lambda: grid(2, nn.MaxPool2d(3, 2, padding=1)), IMAGE),
    Case("max_pool3d", lambda: grid(3, nn.MaxPool3d(2)), VOLUME),
    Case("avg_pool1d", lambda: grid(1, nn.AvgPool1d(2)), LINE),
    Case("avg_pool2d", lambda: grid(2, nn.AvgPool2d(3, 2, padding=1)), IMAGE),
    Case("avg_pool3d", lambda: grid(3, nn.AvgPool3d(2)), VOLUME),
    Case("adaptive_avg_pool2d", lambda: grid(2, nn.AdaptiveAvgPool2d((2, 3))), IMAGE),
    Case("adaptive_max_pool1d", lambda: grid(1, nn.AdaptiveMaxPool1d(2)), LINE),
    Case("adaptive_max_pool2d", lambda: grid(2, nn.AdaptiveMaxPool2d((2, 3))), IMAGE),
    Case("adaptive_max_pool3d", lambda: grid(3, nn.AdaptiveMaxPool3d(2)), VOLUME),
    Case("lp_pool2d", lambda: grid(2, nn.Sigmoid(), nn.LPPool2d(3, 2)), IMAGE),
    Case("max_unpool2d", lambda: Net(lambda m, x: m.back(*m.pool(m.conv(x))).tanh(),
         conv=nn.Conv2d(2, 3, 2), pool=nn.MaxPool2d(2, return_indices=True),
         back=nn.MaxUnpool2d(2)), IMAGE),
    Case("fractional_max_pool2d", lambda: grid(2, nn.FractionalMaxPool2d(2, output_size=3)), IMAGE),
]  # fmt: skip

ACTIVATIONS = [
    Case(name, lambda layer=layer: dense(layer()), mode=mode)
    for name, layer, mode in [
        *(
            (layer.__name__.lower(), layer, "eval")
            for layer in (
                nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU,
                nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink,
                nn.Hardswish, nn.Hardtanh, nn.Tanhshrink, nn.Sigmoid, nn.LogSigmoid,
            )
        ),
        ("prelu of channels", lambda: nn.PReLU(4), "eval"),
        ("rrelu train", nn.RReLU, "train"),
        ("gelu tanh", lambda: nn.GELU("tanh"), "eval"),
        ("softplus sharp", lambda: nn.Softplus(beta=3, threshold=2), "eval"),
        ("threshold", lambda: nn.Threshold(0.1, -0.5), "eval"),
        ("softmax", lambda: nn.Softmax(1), "eval"),
        ("softmin", lambda: nn.Softmin(1), "eval"),
        ("log_softmax", lambda: nn.LogSoftmax(1), "eval"),
    ]
] + [
    Case("relu6", lambda: dense(nn.ReLU6()), lambda n: 9 * normal(3)(n)),
    Case("glu", lambda: dense(nn.GLU(), width=2)),
    Case("hardsigmoid", lambda: dense(nn.Hardsigmoid())),
]  # fmt: skip


def compared(distance):
    """A distance, or an angle, between two images of the input under two layers."""
    return Net(
        lambda m, x: torch.stack([m.distance(m.a(x), m.b(x)), m.distance(m.b(x), x)], 1),
        a=nn.Linear(3, 3), b=nn.Linear(3, 3), distance=distance,
    )  # fmt: skip


class Distances(nn.Module):
    """All distances between examples and three points."""

    def forward(self, x):
        return torch.cdist(x, torch.eye(3, dtype=x.dtype))


class Warp(nn.Module):
    """Each image at positions that depend on its values."""

    def forward(self, x):
        return F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False)


OTHERS = [
    Case("bilinear", lambda: Net(lambda m, x: m.b(m.a(x), x).tanh(), a=nn.Linear(3, 4),
         b=nn.Bilinear(4, 3, 3))),
    Case("pixel_shuffle", lambda: grid(2, nn.PixelShuffle(2), nn.Conv2d(1, 2, 3)), IMAGE),
    Case("pixel_unshuffle", lambda: grid(2, nn.PixelUnshuffle(2)), normal(2, 4, 4)),
    Case("channel_shuffle", lambda: grid(2, nn.ChannelShuffle(2), nn.Conv2d(4, 2, 3)), IMAGE),
    *(
        Case(f"upsample {how}", lambda how=how: grid(2, nn.Upsample(scale_factor=1.7, mode=how)),
             normal(2, 3, 3))
        for how in ("nearest", "bilinear", "bicubic")
    ),
    Case("unfold", lambda: grid(2, nn.Unfold(3)), IMAGE),
    Case("fold", lambda: grid(2, nn.Unfold(3), nn.Fold((5, 5), 3)), IMAGE),
    Case("reflection_pad2d", lambda: grid(2, nn.ReflectionPad2d(2)), IMAGE),
    Case("replication_pad3d", lambda: grid(3, nn.ReplicationPad3d(1)), VOLUME),
    Case("cosine_similarity", lambda: compared(nn.CosineSimilarity())),
    Case("pairwise_distance", lambda: compared(nn.PairwiseDistance())),
    Case("cdist", lambda: dense(nn.Linear(4, 3), Distances(), width=3), refused="cdist"),
    Case("grid_sample", lambda: grid(2, Warp()), IMAGE),
]  # fmt: skip


class Symmetric(nn.Module):
    """A matrix from its upper triangle."""

    def forward(self, x):
        return x.triu() + x.triu(1).T


def symmetric():
    """A layer of a custom parametrization."""
    model = dense(nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
    parametrize.register_parametrization(model[2], "weight", Symmetric())
    return model


def inner(change, **options):
    """Three layers, the inner one changed by a function on modules."""
    return dense(nn.Tanh(), change(nn.Linear(4, 4), **options), nn.Tanh())


def by_frobenius(change):
    """A convolution changed by a function on modules, its norm over all dimensions."""
    return grid(2, change(nn.Conv2d(4, 2, 3), dim=None))


def pruned(model):
    """The smaller half of the weights set to zero."""
    return prune.l1_unstructured(model, "weight", amount=0.5)


OLD, NEW = nn.utils.weight_norm, parametrizations.weight_norm
OLD_SPECTRAL, NEW_SPECTRAL = nn.utils.spectral_norm, parametrizations.spectral_norm
ORTHOGONAL = parametrizations.orthogonal

PARAMETRIZATIONS = [
    Case("weight_norm old", lambda: inner(OLD)),
    Case("weight_norm new", lambda: inner(NEW)),
    Case("weight_norm old, conv", lambda: grid(2, OLD(nn.Conv2d(4, 2, 3))), IMAGE),
    Case("weight_norm new, conv", lambda: grid(2, NEW(nn.Conv2d(4, 2, 3))), IMAGE),
    Case("weight_norm old, one norm", lambda: by_frobenius(OLD), IMAGE),
    Case("weight_norm new, one norm", lambda: by_frobenius(NEW), IMAGE),
    Case("spectral_norm old", lambda: inner(OLD_SPECTRAL)),
    Case("spectral_norm new", lambda: inner(NEW_SPECTRAL)),
    # its vectors are constants of the loss: a step of the power iteration belongs to training
    Case("spectral_norm old train", lambda: inner(OLD_SPECTRAL), mode="train", plain_mode="eval"),
    Case("spectral_norm new train", lambda: inner(NEW_SPECTRAL), mode="train", plain_mode="eval"),
    *(
        Case(f"orthogonal {by}", lambda by=by: inner(ORTHOGONAL, orthogonal_map=by))
        for by in ("matrix_exp", "cayley", "householder")
    ),
    Case("pruned", lambda: inner(pruned)),
    Case("symmetric", symmetric),
]


def noisy(layer):
    """A layer of noise between others, in train mode."""
    return dense(nn.Tanh(), layer, nn.Linear(4, 4), nn.Tanh(), layer)


def recomputed(m, x):
    """A block whose activations are computed again in the backward pass."""
    return m.last(checkpoint(m.block, x, use_reentrant=False))


def two_names():
    """A layer that is reached as `first` and as `all.0`."""
    first, last = nn.Linear(3, 4), nn.Linear(4, 3)
    return Net(lambda m, x: m.all(x), first=first, all=nn.Sequential(first, nn.Tanh(), last))


def transposed_pair():
    """Two layers of one weight, as in an autoencoder."""
    return Net(lambda m, x: F.linear(m.a(x).tanh(), m.a.weight.T), a=nn.Linear(3, 4))


def frozen():
    """Three layers, the inner one not trained."""
    model = dense(nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
    model[2].requires_grad_(False)
    return model


STRUCTURE = [
    Case("dropout", lambda: noisy(nn.Dropout(0.3)), mode="train"),
    Case("alpha_dropout", lambda: noisy(nn.AlphaDropout(0.3)), mode="train"),
    Case("dropout2d", lambda: grid(2, nn.Dropout2d(0.3)), IMAGE, mode="train"),
    Case("feature_alpha_dropout", lambda: grid(2, nn.FeatureAlphaDropout(0.3)), IMAGE,
         mode="train"),
    Case("checkpoint", lambda: Net(recomputed, block=dense(nn.Tanh()), last=nn.Linear(3, 3))),
    Case("checkpoint dropout", lambda: Net(recomputed, block=noisy(nn.Dropout(0.3)),
         last=nn.Linear(3, 3)), mode="train"),
    Case("two names", two_names),
    Case("called twice", lambda: dense(*[nn.Linear(4, 4), nn.Tanh()] * 2)),
    Case("transposed weight", transposed_pair),
    Case("frozen layer", frozen),
]  # fmt: skip


def perceptron(outputs=3, *last):
    """The network below the losses."""
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs), *last)


def distribution(classes):
    """Probabilities for n examples."""
    return lambda n: normal(classes)(n).softmax(1)


def padded(n):
    """Classes, the last one of which is ignored."""
    return torch.cat([torch.tensor([-100]), whole(3)(n - 1)])


WEIGHTS = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)


def loss_case(name, loss, model=perceptron, y=CLASSES, joint=False, refused=None):
    """A case of a loss on the outputs of a network with three inputs."""
    return Case(name, model, y=y, loss=loss, joint=joint, refused=refused)


def six():
    """A network with six outputs."""
    return perceptron(6)


def logs():
    """A network that gives logarithms of probabilities."""
    return perceptron(3, nn.LogSoftmax(1))


def chances():
    """A network that gives numbers in (0, 1)."""
    return perceptron(3, nn.Sigmoid())


def counts(n):
    """Counts for n examples."""
    return whole(4, 3)(n).double()


def ctc(output, y):
    """Two labels in three steps of two classes."""
    logs = output.unflatten(1, (3, 2)).log_softmax(2).transpose(0, 1)
    return F.ctc_loss(logs, y, torch.full((len(y),), 3), torch.full((len(y),), 1))


class Adaptive(nn.Module):
    """The adaptive softmax, which holds weights and gives the loss itself."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.last = nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2, 4], div_value=2)

    def forward(self, x, y):
        return self.last(self.first(x).tanh(), y).loss


LOSSES = [
    loss_case("CrossEntropy", nn.CrossEntropyLoss()),
    loss_case("CrossEntropy function", F.cross_entropy),
    loss_case("CrossEntropy smoothed", nn.CrossEntropyLoss(label_smoothing=0.1)),
    loss_case("CrossEntropy soft targets", nn.CrossEntropyLoss(), y=distribution(3)),
    loss_case("CrossEntropy weighted", nn.CrossEntropyLoss(weight=WEIGHTS), joint=True),
    loss_case("CrossEntropy ignoring", nn.CrossEntropyLoss(), y=padded, joint=True),
    loss_case("CrossEntropy sum", nn.CrossEntropyLoss(reduction="sum"), joint=True),
    loss_case("CrossEntropy pixels", nn.CrossEntropyLoss(),
              lambda: perceptron(6, nn.Unflatten(1, (3, 2))), whole(3, 2)),
    loss_case("NLL", nn.NLLLoss(), logs),
    loss_case("NLL weighted", nn.NLLLoss(weight=WEIGHTS, ignore_index=0), logs, joint=True),
    loss_case("MSE", nn.MSELoss(), y=normal(3)),
    loss_case("MSE sum", nn.MSELoss(reduction="sum"), y=normal(3), joint=True),
    loss_case("L1", nn.L1Loss(), y=normal(3)),
    loss_case("SmoothL1", nn.SmoothL1Loss(beta=0.5), y=normal(3)),
    loss_case("Huber", nn.HuberLoss(delta=0.5), y=normal(3)),
    loss_case("BCE", nn.BCELoss(), chances, uniform(3)),
    loss_case("BCE weighted", nn.BCELoss(weight=WEIGHTS), chances, uniform(3)),
    loss_case("BCEWithLogits", nn.BCEWithLogitsLoss(), y=uniform(3)),
    loss_case("BCEWithLogits pos_weight", nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), y=uniform(3)),
    loss_case("KLDiv", nn.KLDivLoss(reduction="batchmean"), logs, distribution(3)),
    loss_case("KLDiv of logarithms", nn.KLDivLoss(reduction="batchmean", log_target=True), logs,
              lambda n: distribution(3)(n).log()),
    loss_case("PoissonNLL", nn.PoissonNLLLoss(full=True), y=counts),
    loss_case("PoissonNLL of rates", nn.PoissonNLLLoss(log_input=False),
              lambda: perceptron(3, nn.Softplus()), counts),
    loss_case("GaussianNLL", lambda output, y: F.gaussian_nll_loss(
        output[:, :3], y, F.softplus(output[:, 3:])), six, normal(3)),
    loss_case("SoftMargin", nn.SoftMarginLoss(), y=signs(3)),
    loss_case("MultiLabelSoftMargin", nn.MultiLabelSoftMarginLoss(weight=WEIGHTS), y=uniform(3)),
    loss_case("HingeEmbedding", nn.HingeEmbeddingLoss(), y=signs(3)),
    loss_case("CosineEmbedding", lambda output, y: F.cosine_embedding_loss(
        output[:, :3], output[:, 3:], y), six, signs()),
    loss_case("MarginRanking", lambda output, y: F.margin_ranking_loss(
        output[:, 0], output[:, 1], y, margin=0.5), y=signs()),
    loss_case("TripletMargin", lambda output, y: F.triplet_margin_loss(
        output[:, :3], output[:, 3:], y, margin=2.0, swap=True), six, normal(3)),
    loss_case("TripletMarginWithDistance", lambda output, y: F.triplet_margin_with_distance_loss(
        output[:, :3], output[:, 3:], y, distance_function=lambda a, b: (a - b).pow(4).sum(1),
        margin=9.0), six, normal(3)),
    loss_case("MultiLabelMargin", nn.MultiLabelMarginLoss(),
              y=lambda n: torch.tensor([[2, 0, -1]]).repeat(n, 1), refused="multi_?label_?margin"),
    loss_case("MultiMargin", nn.MultiMarginLoss(), refused="multi_?margin"),
    loss_case("CTC", ctc, six, lambda n: torch.ones(n, 1, dtype=torch.long), refused="ctc"),
    Case("AdaptiveLogSoftmax", Adaptive, lambda n: (normal(3)(n), whole(6)(n)),
         loss=lambda output, y: output),
]  # fmt: skip

CASES = [
    *CONVOLUTIONS, *NORMS, *RECURRENT, *ATTENTION, *EMBEDDINGS, *POOLS, *ACTIVATIONS, *OTHERS,
    *PARAMETRIZATIONS, *STRUCTURE, *LOSSES,
]  # fmt: skip


def joined(batches):
    """One batch of all examples."""
    return [tuple(torch.cat(parts) for parts in zip(*batches, strict=True))]


def plain_gradient(model, theta, batches, loss):
    """The gradient [P] at theta [P] by plain calls of the model itself.

    The examples of all batches count alike. Each pass begins with the same random numbers and, as
    the model's own passes may change them, the same buffers.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    nn.utils.vector_to_parameters(theta, parameters)
    kept = [b.clone() for b in model.buffers()]
    total, count = torch.zeros_like(theta), 0
    for x, y in batches:
        inputs = x if isinstance(x, tuple) else (x,)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            value = loss(model(*inputs), y)
        parts = torch.autograd.grad(value, parameters, materialize_grads=True)
        flat = torch.cat([part.to_dense().reshape(-1) for part in parts])
        total, count = total + len(inputs[0]) * flat, count + len(inputs[0])
        for buffer, values in zip(model.buffers(), kept, strict=True):
            buffer.copy_(values)
    return total / count


def differences(case, vectors):
    """H v for each column of [P, K] by central differences of the plain gradient."""
    model, batches = case.make(), case.batches()
    model.train((case.plain_mode or case.mode) == "train")
    if case.plain is not None:
        case.plain(model, batches)
    batches = joined(batches) if case.joint else batches
    trained = [p for p in model.parameters() if p.requires_grad]
    theta = nn.utils.parameters_to_vector(trained).detach().clone()
    if case.constant is not None:
        vectors = vectors.clone()
        vectors[case.constant] = 0
    columns = []
    for v in vectors.T:
        up, down = (
            plain_gradient(model, theta + step * v, batches, case.loss) for step in (STEP, -STEP)
        )
        columns.append((up - down) / (2 * STEP))
    return torch.stack(columns, 1)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_products_are_differences_of_plain_gradients(case):
    model = case.make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    probes = torch.randn(size, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def products():
        problem = lla.Problem(model, case.batches(), loss=case.loss, mode=case.mode)
        problem.loss(problem.theta() + 0.1)  # which leaves nothing behind
        return lla.HessianOperator(problem) @ probes

    if case.refused is not None:
        with pytest.raises(InputError, match=re.compile(case.refused, re.IGNORECASE)):
            products()
    else:
        found, expected = products(), differences(case, probes)
        scale = expected.norm(dim=0)
        assert (scale > 1e-3).all(), "the case says nothing"
        error = float(((found - expected).norm(dim=0) / scale).max())
        assert error < TOLERANCE, f"{error:.1e} of H v"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the user's model was changed"


def test_the_sweep_is_as_wide_as_was_asked():
    """Issue 14, must show: at least 60 cases, and at most 10 of them refused."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert sum(case.refused is not None for case in CASES) <= 10
