import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla

X, Y = torch.rand(4, 3), torch.tensor([0, 1, 2, 0])


def mlp():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))


@pytest.mark.parametrize("sizes", [(5,), (5, 5, 2)])
def test_loss_and_gradient_are_those_of_plain_calls(cases, case, sizes, device):
    problem = case.problem(sizes, device=device)
    model, batches = case.make(), case.batches(sizes)
    loss, _ = cases.plain_loss(model, batches, case.loss, case.mode)
    gradient, _ = cases.plain_gradient(model, batches, case.loss, case.mode)
    torch.testing.assert_close(problem.loss().cpu(), loss.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(problem.gradient().cpu(), gradient, rtol=1e-10, atol=1e-12)


def test_facts(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    problem = case.problem((5, 5, 2), torch.float32)
    assert problem.batch_sizes == (5, 5, 2)
    assert problem.examples == 12
    assert problem.dtype == torch.float32
    assert problem.device == torch.device("cpu")
    assert problem.loss().shape == ()
    assert problem.batch_losses().shape == (3,)


def test_theta_is_a_copy_in_the_order_of_named_parameters(cases):
    case = cases.BY_NAME["frozen_and_unused"]
    model = case.make()
    problem = lla.Problem(model, case.batch(3))
    expected = torch.cat([p.flatten() for p in model.parameters() if p.requires_grad])
    theta = problem.theta()
    assert torch.equal(theta, expected)
    theta.zero_()
    assert torch.equal(problem.theta(), expected)
    assert torch.equal(problem.theta("last.*"), expected[-15:])


def test_loss_elsewhere_is_that_of_a_model_with_those_weights(cases):
    case = cases.BY_NAME["residual_eval"]
    model, batches = case.make(), case.batches((4, 3))
    problem = lla.Problem(model, batches)
    elsewhere = problem.theta() + 0.1
    found, gradient = problem.loss(elsewhere), problem.gradient(elsewhere)
    nn.utils.vector_to_parameters(elsewhere, model.parameters())
    assert torch.equal(found, problem.loss())
    torch.testing.assert_close(found, cases.plain_loss(model, batches, case.loss)[0].detach())
    torch.testing.assert_close(gradient, cases.plain_gradient(model, batches)[0])
    assert not elsewhere.requires_grad


def test_training_between_two_calls_is_seen(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batch = case.make(), case.batch(5)
    problem = lla.Problem(model, batch)
    first = problem.loss()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
        model[1].running_mean.add_(0.5)
    second = problem.loss()
    assert second != first
    torch.testing.assert_close(second, cases.plain_loss(model, [batch], case.loss)[0].detach())


def test_modes_differ_by_statistics_and_dropout(cases):
    for name in ("cnn_bn_eval", "dropout_train"):
        case = cases.BY_NAME[name]
        model, batch = case.make(), case.batch(5)
        by_mode = {mode: lla.Problem(model, batch, mode=mode).loss() for mode in ("eval", "train")}
        assert by_mode["eval"] != by_mode["train"]


def test_train_mode_is_one_deterministic_function_of_the_seed(cases):
    case = cases.BY_NAME["dropout_train"]
    model, batches = case.make(), case.batches((5, 5))
    first, same, other = (
        lla.Problem(model, batches, mode="train", seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first.loss(), first.loss())
    assert torch.equal(first.batch_losses(), same.batch_losses())
    assert not torch.equal(first.batch_losses(), other.batch_losses())


def test_flags_of_the_model_do_not_matter(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batch = case.make(), case.batch(5)
    losses = []
    for flag in (True, False):
        model.train(flag)
        losses.append([lla.Problem(model, batch, mode=m).loss() for m in ("eval", "train")])
    assert losses[0] == losses[1]


def test_batchnorm_without_statistics_of_its_own_uses_the_batch_in_both_modes():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))
    modes = [lla.Problem(model, (X, Y), mode=mode).loss() for mode in ("eval", "train")]
    assert modes[0] == modes[1]


def test_instance_norm_with_statistics_in_train_mode():
    model = nn.Sequential(nn.InstanceNorm1d(2, affine=True, track_running_stats=True), nn.Flatten())
    x = torch.rand(3, 2, 4)
    problem = lla.Problem(model, (x, Y[:3]), mode="train")
    expected = F.cross_entropy(nn.InstanceNorm1d(2)(x).flatten(1), Y[:3])
    torch.testing.assert_close(problem.loss(), expected)
    assert not model[0].running_mean.any()
    H = lla.HessianOperator(problem)
    assert (H @ torch.ones(4)).shape == (4,)


def test_running_an_exotic_module_does_not_reach_the_original():
    class Exotic(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("average", torch.zeros(3), persistent=False)
            self.calls, self.last = 0, None

        def forward(self, x):
            self.calls += 1
            self.last = x
            self.average.mul_(0.9).add_(x.mean(0))
            self.average = self.average * 2
            return self.layer(x) + self.average

    model = Exotic()
    buffer = model.average
    problem = lla.Problem(model, (X, Y), mode="train")
    assert torch.equal(problem.loss(), problem.loss())
    problem.gradient()
    assert model.calls == 0
    assert model.last is None
    assert model.average is buffer
    assert not buffer.any()


@pytest.mark.parametrize("loss", [lambda out, y: out.sum() * 0, lambda out, y: out.detach().sum()])
def test_gradient_of_a_constant_loss_is_zero(loss):
    assert not lla.Problem(nn.Linear(3, 3), (X, Y), loss).gradient().any()


def test_weighting_of_the_batches():
    model = nn.Linear(1, 1, bias=False)
    batches = [(torch.full((n, 1), v), torch.zeros(n, 1)) for n, v in ((3, 1.0), (1, 5.0))]
    problem = lla.Problem(model, batches, lambda out, y: (out / model.weight.detach()).mean())
    assert float(problem.loss()) == pytest.approx(2.0)
    values = torch.tensor([[1.0, 2.0], [5.0, 6.0]])
    assert problem.pool(values).tolist() == pytest.approx([2.0, 3.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_loss_that_is_not_finite_names_its_batch(value):
    bad = X.clone()
    bad[1, 1] = value
    problem = lla.Problem(nn.Linear(3, 3), [(X, Y), (X, Y), (bad, Y), (bad, Y)])
    with pytest.raises(lla.NonFiniteError, match=r"batch 2 is (nan|inf) \(2 of 4 batches"):
        problem.loss()
    assert problem.batch_losses().isfinite().tolist() == [True, True, False, False]


def test_weights_that_are_not_finite():
    model = nn.Linear(3, 3)
    nn.init.constant_(model.bias, float("nan"))
    with pytest.raises(lla.NonFiniteError, match="check its inputs and the weights"):
        lla.Problem(model, (X, Y)).loss()


@pytest.mark.parametrize(
    ("targets", "loss", "message"),
    [
        (torch.rand(4), F.cross_entropy, r"cross_entropy rejects targets \(float32 \(4,\)\)"),
        (Y + 7, F.cross_entropy, r"cross_entropy rejects targets .*out of bounds.*int64"),
        (Y[:3], F.cross_entropy, r"rejects targets \(int64 \(3,\)\) for outputs \(float32 \(4"),
        (Y[:, None], F.cross_entropy, "cross_entropy rejects targets"),
        ([0, 1, 2, 0], F.cross_entropy, r"rejects targets \(list\)"),
        (None, F.cross_entropy, r"rejects targets \(NoneType\)"),
        (torch.rand(4, 2), F.mse_loss, "mse_loss rejects targets"),
        (torch.rand(4), nn.BCEWithLogitsLoss(), "BCEWithLogitsLoss rejects targets"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_targets_of_the_wrong_type(targets, loss, message):
    with pytest.raises(lla.InputError, match=message):
        lla.Problem(mlp(), (X, targets), loss)


@pytest.mark.parametrize("bad", [Y + 7, Y.float(), Y[:2]], ids=["class", "type", "number"])
def test_targets_of_a_later_batch_are_named(bad):
    problem = lla.Problem(mlp(), [(X, Y), (X, bad)])
    for action in (problem.loss, lambda: lla.HessianOperator(problem)):
        with pytest.raises(lla.InputError, match="batch 1"):
            action()


def test_later_batch_that_the_model_rejects_is_named():
    problem = lla.Problem(mlp(), [(X, Y), (X[:, :2], Y)])
    with pytest.raises(lla.InputError, match="batch 1"):
        problem.loss()


def test_batch_of_one_example_under_batchnorm_in_train_mode_is_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    problem = lla.Problem(model, [(X, Y), (X[:1], Y[:1])], mode="train")
    with pytest.raises(lla.InputError, match="batch 1"):
        problem.loss()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.CrossEntropyLoss(reduction="none"), r"float32 \(4,\), not one number: average it"),
        (lambda out, y: F.mse_loss(out, out, reduction="none"), r"float32 \(4, 3\), not one"),
        (lambda out, y: float(out.sum()), "gives float, not one number"),
        (lambda out, y: (out.argmax(1) == y).sum(), r"gives int64 \(\), not one number"),
        (lambda out, y: None, "gives NoneType"),
        (lambda out, y: out.sum().to(torch.complex64), "complex64"),
        (lambda out, y: out.sum()[None], r"float32 \(1,\), not one number"),
    ],
)
def test_loss_that_is_no_number(loss, message):
    with pytest.raises(lla.InputError, match=message):
        lla.Problem(mlp(), (X, Y), loss)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(4, 5), r"rejects the input of batch 0 \(float32 \(4, 5\), parameters"),
        (X.double(), r"float64 \(4, 3\), parameters torch.float32"),
        (torch.ones(4, 3, dtype=torch.long), r"int64 \(4, 3\)"),
        ((X, X), "tuple"),
        ({"image": X}, "image"),
    ],
)  # fmt: skip
def test_input_that_the_model_rejects(x, message):
    with pytest.raises(lla.InputError, match=message):
        lla.Problem(nn.Linear(3, 3), [(x, Y)])


def test_unknown_mode():
    with pytest.raises(lla.InputError, match="mode is 'training': choose 'eval' or 'train'"):
        lla.Problem(mlp(), (X, Y), mode="training")


@pytest.mark.parametrize("pair", [False, True])
def test_inputs_in_tuples_and_mappings(cases, pair):
    for name in ("tuple_input", "dict_input"):
        case = cases.BY_NAME[name]
        model, batch = case.make(), case.batch(5)
        problem = lla.Problem(model, batch if pair else [batch])
        expected = cases.plain_loss(model, [batch], case.loss)[0].detach()
        torch.testing.assert_close(problem.loss(), expected)
        assert problem.batch_sizes == (5,)


def test_two_batches_in_a_tuple_are_two_batches():
    problem = lla.Problem(mlp(), ((X, Y), (X[:2], Y[:2])))
    assert problem.batch_sizes == (4, 2)


def test_python_random_numbers_in_the_loader_are_found():
    class Augments:
        def __iter__(self):
            yield X + random.random(), Y

    with pytest.raises(lla.InputError, match="different data on each pass"):
        lla.Problem(mlp(), Augments())


def test_attention_has_the_same_loss_with_and_without_gradients(cases):
    case = cases.BY_NAME["encoder_eval"]
    problem = case.problem()
    with torch.enable_grad():
        one = problem.loss()
    with torch.no_grad():
        other = problem.loss()
    assert torch.equal(one, other)
    batch = next(iter(problem.batches))
    with problem.deterministic(), torch.enable_grad():
        theta = problem.theta().requires_grad_()
        torch.testing.assert_close(problem.batch_loss(batch)(theta).detach(), one)


def test_attributes_that_are_no_tensors_are_carried():
    model = mlp()
    model.generator = torch.Generator().manual_seed(3)
    problem = lla.Problem(model, (X, Y))
    torch.testing.assert_close(problem.loss(), F.cross_entropy(model(X), Y).detach())


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_problem_elsewhere_is_that_of_a_model_with_those_weights(cases, case, mode):
    batches = case.batches((4, 3))
    problem = lla.Problem(case.make(), batches, case.loss, mode, seed=cases.SEED)
    theta = problem.theta() * 1.1
    there = problem.at(theta)
    assert torch.equal(there.theta(), theta)
    torch.testing.assert_close(there.loss(), problem.loss(theta), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(there.gradient(), problem.gradient(theta), rtol=1e-11, atol=1e-13)
    assert (there.mode, there.classes, there.batch_sizes) == (mode, problem.classes, (4, 3))
    assert there.space == problem.space


def test_a_problem_elsewhere_has_tensors_of_its_own(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batch = case.make(), case.batch(5)
    problem = lla.Problem(model, batch)
    first = problem.loss()
    there = problem.at(problem.theta() * 1.1)
    kept = there.loss()
    with torch.no_grad():
        for tensor in [*model.parameters(), model[1].running_mean]:
            tensor.add_(1.0)
    assert torch.equal(there.loss(), kept)
    assert not torch.equal(problem.loss(), first)
    again = there.at(there.theta() * 2)
    assert torch.equal(again.theta(), there.theta() * 2)


def test_a_problem_elsewhere_with_other_buffers(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batch = case.make(), case.batch(5)
    problem = lla.Problem(model, batch)
    buffers = {"1.running_mean": torch.tensor([0.5, -0.5]).double()}
    there = problem.at(problem.theta(), buffers)
    other = case.make()
    other[1].running_mean.copy_(buffers["1.running_mean"])
    assert torch.equal(there.loss(), lla.Problem(other, batch).loss())
    assert there.loss() != problem.loss()
    assert torch.equal(there.theta(), problem.theta())


def test_a_tied_or_a_frozen_parameter_elsewhere(cases):
    there = cases.BY_NAME["tied"].problem().at(torch.zeros(44).double())
    with there.deterministic(), there.holding() as network:
        assert network.head.weight is network.embed.weight
        assert not network.head.weight.any()
    problem = cases.BY_NAME["frozen_and_unused"].problem()
    there = problem.at(problem.theta() * 0)
    with there.deterministic(), there.holding() as network:
        assert torch.equal(network.frozen.weight, problem.state()["frozen.weight"])
        assert not network.frozen.weight.requires_grad
        assert not network.first.weight.any()
    assert problem.model.first.weight.any()


def test_a_hessian_elsewhere(cases):
    case = cases.BY_NAME["layer_norm_tanh"]
    problem = case.problem((4, 3))
    theta = problem.theta() * 1.2
    model = case.make()
    nn.utils.vector_to_parameters(theta, model.parameters())
    expected = cases.plain_hessian(model, case.batches((4, 3)), case.loss)
    found = lla.HessianOperator(problem.at(theta)) @ torch.eye(len(theta)).double()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_weights_of_another_length_elsewhere():
    problem = lla.Problem(mlp(), (X, Y))
    with pytest.raises(lla.InputError, match="the vector has 30 elements, the parameters have 31"):
        problem.at(torch.zeros(30))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_are_those_of_plain_calls(cases, case, mode):
    batches = case.batches((4, 3))
    problem = lla.Problem(case.make(), batches, case.loss, mode, seed=cases.SEED)
    model = case.make().train(mode == "train")
    found = list(problem.outputs())
    assert len(found) == 2
    for (output, y), (x, target) in zip(found, batches, strict=True):
        _, there = cases.plain_loss(model, [(x, target)], case.loss, mode)  # a copy of the model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cases.SEED)
            expected = cases.call(there, x).detach()
        torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-13)
        assert torch.equal(y, target)
        assert not output.requires_grad
        value = case.loss(output, y)
        assert value.isfinite()
    total = sum(len(y) * case.loss(o, y) for o, y in found) / 7
    torch.testing.assert_close(total, problem.loss(), rtol=1e-12, atol=1e-14)


def test_outputs_elsewhere(cases):
    problem = cases.BY_NAME["fire"].problem((4, 3))
    theta = problem.theta() * 1.3
    for (one, _), (other, _) in zip(problem.outputs(theta), problem.at(theta).outputs(),
                                    strict=True):  # fmt: skip
        assert torch.equal(one, other)
    grad = torch.is_grad_enabled()
    next(iter(problem.outputs()))
    assert torch.is_grad_enabled() == grad


@pytest.mark.parametrize(
    ("model", "x", "y", "loss", "expected"),
    [
        (nn.Linear(3, 5), X, Y, F.cross_entropy, 5),
        (nn.Linear(3, 5), X, torch.rand(4, 5), F.cross_entropy, None),  # probabilities
        (nn.Linear(3, 5), X, torch.rand(4, 5), F.mse_loss, None),
        (nn.Conv2d(1, 4, 1), X[:, None, None], torch.zeros(4, 1, 3).long(), F.cross_entropy, 4),
        (nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), X, Y,
         lambda out, y: F.mse_loss(out, y.float()), None),
        (nn.Linear(3, 5), X, (Y, Y), lambda out, y: F.cross_entropy(out, y[0]), None),
        (nn.Linear(3, 5), X, None, lambda out, y: out.mean(), None),
    ],
    ids=["indices", "probabilities", "values", "pictures", "one number", "two targets", "none"],
)  # fmt: skip
def test_number_of_classes(model, x, y, loss, expected):
    assert lla.Problem(model, [(x, y)], loss).classes == expected


def test_number_of_classes_of_logits(cases):
    assert cases.BY_NAME["output_with_logits"].problem().classes == 3
    assert cases.BY_NAME["quadratic"].problem().classes is None


EVAL = [
    "quadratic", "linear_regression", "mlp_mse", "cnn_bn_eval", "residual_eval", "fire",
    "attention", "sdpa_causal", "encoder_eval", "group_norm_gelu", "tied", "frozen_and_unused",
    "channels_last_eval", "tuple_input", "dict_input", "output_with_logits", "recurrent",
]  # fmt: skip


@pytest.mark.parametrize("case", EVAL, indirect=True)
def test_micro_batches_give_the_loss_and_gradient_of_plain_calls(cases, case):
    problem = case.problem((5, 4, 1))
    split = problem.in_micro_batches(2)
    assert split.batch_sizes == (2, 2, 1, 2, 2, 1)
    assert problem.batch_sizes == (5, 4, 1)
    model, batches = case.make(), case.batches((5, 4, 1))
    loss, _ = cases.plain_loss(model, batches, case.loss)
    gradient, _ = cases.plain_gradient(model, batches, case.loss)
    torch.testing.assert_close(split.loss(), loss.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(split.gradient(), gradient, rtol=1e-10, atol=1e-12)


def test_micro_batches_are_refused_in_train_mode(cases):
    with pytest.raises(lla.InputError, match=r"micro_batch is 2 in train mode, .* BatchNorm's"):
        cases.BY_NAME["cnn_bn_train"].problem().in_micro_batches(2)


class Centred(nn.Module):
    """Subtracts the mean of the batch; its last layer may be zero."""

    def __init__(self, zero):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)
        if zero:
            nn.init.zeros_(self.last.weight)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.last(hidden - hidden.mean(0))


class Noisy(nn.Module):
    """Draws random numbers in eval mode too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(F.dropout(x, 0.5, training=True))


def squared(output, y):
    return F.cross_entropy(output, y) ** 2


def total(output, y):
    return F.cross_entropy(output, y, reduction="sum")


def weighted(output, y):
    return F.cross_entropy(output, y, weight=torch.tensor([1.0, 2.0, 3.0]).double())


@pytest.mark.parametrize(
    ("make", "loss"),
    [
        (lambda: Centred(False), F.cross_entropy),
        (lambda: Centred(True), F.cross_entropy),
        (Noisy, F.cross_entropy),
        (mlp, squared),
    ],
    ids=["mixes", "mixes before a zero layer", "random", "no mean"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_micro_batches_that_give_another_function_are_refused(make, loss, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().to(dtype)
        x = torch.randn(7, 3).to(dtype)
    problem = lla.Problem(model, (x, torch.arange(7) % 3), loss)
    with pytest.raises(
        lla.InputError, match=r"the loss of batch 0 is [\d.]+ whole and [\d.]+ from"
    ):
        problem.in_micro_batches(3)
    assert problem.in_micro_batches(7).batch_sizes == (7,)


@pytest.mark.parametrize("loss", [total, weighted])
def test_micro_batches_of_a_sum_and_of_a_weighted_mean(loss):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = mlp().double(), torch.randn(7, 3).double()
    problem = lla.Problem(model, (x, torch.arange(7) % 3), loss)
    parts = problem.in_micro_batches(3)
    assert parts.batch_sizes == (3, 3, 1)
    torch.testing.assert_close(parts.loss(), problem.loss(), rtol=1e-12, atol=0)
    torch.testing.assert_close(parts.gradient(), problem.gradient(), rtol=1e-12, atol=1e-14)


def test_the_batch_that_mixes_is_named_and_errors_of_two_do_not_cancel():
    def crooked(output, y):  # of two batches, one too high and one too low in parts
        sign = torch.where(y[0] == 0, 1.0, -1.0)
        return F.cross_entropy(output, y) + sign / len(y)

    problem = lla.Problem(mlp(), [(X, Y * 0), (X, Y * 0 + 1)], crooked)
    with pytest.raises(lla.InputError, match="the loss of batch 0"):
        problem.in_micro_batches(2)


def test_a_trained_network_may_be_cut_though_its_loss_is_all_rounding():
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight.copy_(40 * torch.eye(3))
    x = torch.eye(3)[Y.repeat(50)] + 0.01 * torch.rand(200, 3)
    problem = lla.Problem(model, (x, Y.repeat(50)))
    assert problem.loss() < 1e-6
    assert len(problem.in_micro_batches(3).batch_sizes) == 67


def test_out_of_memory_is_not_taken_for_a_wrong_batch():
    class Huge(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.size = nn.Linear(3, 3), 1

        def forward(self, x):
            return self.layer(x) + torch.empty(self.size)[0] * 0

    model = Huge()
    problem = lla.Problem(model, (X, Y))
    model.size = 2**55
    with pytest.raises(RuntimeError, match="allocate"):
        problem.loss()
    with pytest.raises(RuntimeError, match="allocate"):
        lla.Problem(model, (X, Y))


def test_over_other_batches_it_is_the_same_function(cases):
    case = cases.BY_NAME["dropout_train"]
    problem = case.problem((5, 4))
    other = problem.over(case.batches((5, 4))[1:])
    expected, _ = cases.plain_loss(case.make(), case.batches((5, 4))[1:], case.loss, "train")
    assert other.batch_sizes == (4,)
    torch.testing.assert_close(other.loss(), expected.detach(), rtol=1e-12, atol=0)


@pytest.mark.hard_use("A gradient that is not finite is an error, as a loss that is not finite is")
@pytest.mark.parametrize(
    ("x", "loss", "said"),
    [
        (math.nan, F.mse_loss, "the loss of batch 1 is nan"),
        (
            0.0,
            lambda out, y: (out * 0).sum().sqrt(),
            "largest element of the gradient of batch",
        ),
    ],
)
def test_a_gradient_that_is_not_finite(x, loss, said):
    batches = [(torch.ones(2, 3), torch.zeros(2, 1)), (torch.full((2, 3), x), torch.zeros(2, 1))]
    problem = lla.Problem(nn.Linear(3, 1), batches, loss, weights=[1.0, 1.0], check=False)
    with pytest.raises(lla.NonFiniteError, match=said):
        problem.gradient()


@pytest.mark.parametrize("size", [10**9, 10**400])
def test_a_micro_batch_larger_than_the_batch_is_the_whole_batch(size):
    problem = lla.Problem(nn.Linear(3, 2), (torch.ones(4, 3), torch.arange(4) % 2))
    assert torch.equal(problem.in_micro_batches(size).loss(), problem.loss())


def test_a_loss_in_another_type_than_the_parameters_has_a_gradient():
    x, y = torch.randn(6, 3), torch.arange(6) % 2
    model = torch.nn.Linear(3, 2)
    problem = lla.Problem(model, [(x[:4], y[:4]), (x[4:], y[4:])], in_double)
    loss, gradient = problem.loss_and_gradient()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    torch.testing.assert_close(gradient, expected)
    assert loss.item() == pytest.approx(problem.loss().item())


def in_double(z, y):
    return torch.nn.functional.cross_entropy(z.double(), y)
