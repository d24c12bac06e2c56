import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from lla import checkpoints, models
from lla.errors import ChecksumError, InputError, NonFiniteError, WriteError
from lla.tensor_hashes import tensors_sha256
from lla.training import accuracy, kept_checkpoint, train, weights_sha256


class Net(nn.Module):
    """Small, with everything that has a state: BatchNorm, dropout, a frozen parameter."""

    def __init__(self, num_classes=3, width=16):
        super().__init__()
        self.first = nn.Linear(8, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(width, num_classes)
        self.scale = nn.Parameter(torch.tensor(1.5), requires_grad=False)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.first(x))))) * self.scale


def net(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(**options)


def examples(count=200):
    """Three classes that a small network can tell apart."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (count,), generator=generator)
    x = torch.randn(count, 8, generator=generator) + 2 * nn.functional.one_hot(y, 8)
    return x, y


ARGUMENTS = {"epochs": 4, "batch_size": 32, "lr": 0.01, "seed": 5}


def test_it_learns_and_reports_it():
    model = net()
    result = train(model, examples(), **{**ARGUMENTS, "epochs": 15})
    assert result.epochs == len(result.loss) == len(result.accuracy) == 15
    assert result.loss[-1] < 0.7 * result.loss[0]
    assert result.accuracy[-1] > 0.85
    assert result.accuracy[-1] == accuracy(model, *examples())
    assert result.weights_sha256 == weights_sha256(model)
    assert result.finished
    assert result.seconds > 0


def test_the_first_step_is_adam_s():
    x, y = examples(32)
    model, reference = net().double(), net().double()
    for module in (model, reference):
        module.drop.p = 0.0
    train(model, (x.double(), y), epochs=1, batch_size=32, lr=0.01)
    reference.train()
    loss = nn.functional.cross_entropy(reference(x.double()), y)
    loss.backward()
    for name, parameter in reference.named_parameters():
        trained = model.get_parameter(name)
        if parameter.grad is None:
            assert torch.equal(trained, parameter)  # frozen
        else:  # after one step, Adam has moved by lr * g / (|g| + eps)
            step = 0.01 * parameter.grad / (parameter.grad.abs() + 1e-8)
            assert torch.allclose(trained, parameter - step, rtol=0, atol=1e-8)


def test_weight_decay_is_the_gradient_of_half_the_squared_norm():
    x, y = examples(32)
    model, reference = net().double(), net().double()
    for module in (model, reference):
        module.drop.p = 0.0
    train(model, (x.double(), y), epochs=1, batch_size=32, lr=0.01, weight_decay=0.3)
    weights = [p for p in reference.train().parameters() if p.requires_grad]
    norm = sum((p**2).sum() for p in weights)
    loss = nn.functional.cross_entropy(reference(x.double()), y) + 0.3 / 2 * norm
    for old, new, g in zip(
        weights,
        [p for p in model.parameters() if p.requires_grad],
        torch.autograd.grad(loss, weights),
        strict=True,
    ):
        assert torch.allclose(new, old - 0.01 * g / (g.abs() + 1e-8), rtol=0, atol=1e-8)


def test_loss_is_the_mean_over_examples_also_with_a_short_last_batch():
    x, y = examples(50)
    model = models.build("mlp", num_classes=3, in_features=8)
    before = nn.functional.cross_entropy(model(x), y).item()
    result = train(model, (x, y), epochs=1, batch_size=32, lr=1e-12)
    assert result.loss[0] == pytest.approx(before, rel=1e-6)


def test_equal_arguments_give_equal_weights_and_every_argument_counts():
    def run(**changes):
        return train(net(), examples(), **{**ARGUMENTS, "epochs": 2, **changes}).weights_sha256

    first = run()
    torch.manual_seed(99)
    assert run() == first
    others = run(seed=6), run(lr=0.02), run(batch_size=31), run(epochs=3), run(weight_decay=0.1)
    assert len({first, *others}) == 6


def test_global_state_and_flags_are_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    model = net()
    model.norm.eval()
    train(model, examples(), **ARGUMENTS)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert not model.norm.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not torch.backends.cudnn.deterministic


def test_every_call_of_the_model_has_deterministic_kernels():
    model, seen = net(), []
    cudnn = torch.backends.cudnn
    model.register_forward_hook(
        lambda module, *_: seen.append((module.training, cudnn.deterministic, cudnn.benchmark))
    )
    train(model, examples(), **ARGUMENTS)
    assert set(seen[-1:]) == {(False, True, False)}
    assert (True, True, False) in seen


def test_accuracy_counts_in_eval_mode_and_leaves_the_flags():
    x, y = examples(100)
    model = net()
    model.norm.eval()
    expected = (model.eval()(x).argmax(1) == y).double().mean().item()
    model.train()
    model.norm.eval()
    assert accuracy(model, x, y, batch_size=33) == expected
    assert model.training
    assert not model.norm.training
    with pytest.raises(InputError, match="as many labels"):
        accuracy(model, x, y[1:])
    with pytest.raises(InputError, match="as many labels"):
        accuracy(model, x[:0], y[:0])


def test_it_stops_at_the_target_and_goes_on_to_a_higher_one(tmp_path):
    path = tmp_path / "run.pt"
    arguments = {**ARGUMENTS, "epochs": 40, "checkpoint": path}
    low = train(net(), examples(), **arguments, target_accuracy=0.6)
    assert low.finished
    assert low.accuracy[-1] >= 0.6
    assert all(share < 0.6 for share in low.accuracy[:-1])
    again = train(net(), examples(), **arguments, target_accuracy=0.6)
    assert again.weights_sha256 == low.weights_sha256
    assert again.epochs == low.epochs
    higher = train(net(), examples(), **arguments, target_accuracy=0.9)
    assert higher.accuracy[: low.epochs] == low.accuracy
    assert higher.epochs > low.epochs
    unreached = train(net(), examples(), **ARGUMENTS, target_accuracy=1.0)
    assert not unreached.finished
    assert unreached.epochs == 4


def test_epochs_are_reported_in_order():
    seen = []
    result = train(net(), examples(), **ARGUMENTS, on_epoch=lambda *epoch: seen.append(epoch))
    assert seen == list(zip(range(1, 5), result.loss, result.accuracy, strict=True))


def test_progress_bar_shows_loss_and_accuracy(capsys):
    quiet = train(net(), examples(), **ARGUMENTS)
    assert capsys.readouterr().err == ""
    shown = train(net(), examples(), **ARGUMENTS, progress=True)
    assert shown.weights_sha256 == quiet.weights_sha256
    bar = capsys.readouterr().err
    assert "accuracy=" in bar
    assert f"loss={shown.loss[-1]:.4f}" in bar
    assert "28/28" in bar


def test_continued_run_ends_with_the_same_weights(tmp_path):
    path = tmp_path / "runs" / "run.pt"
    whole = train(net(), examples(), **ARGUMENTS)
    part = train(net(), examples(), **{**ARGUMENTS, "epochs": 2}, checkpoint=path)
    model = net()
    rest = train(model, examples(), **ARGUMENTS, checkpoint=path)
    assert (part.epochs, rest.epochs) == (2, 4)
    assert rest.weights_sha256 == whole.weights_sha256 == weights_sha256(model)
    assert rest.loss == whole.loss
    assert rest.accuracy == whole.accuracy
    assert rest.seconds > part.seconds


def test_the_trained_model_itself_may_go_on(tmp_path):
    path = tmp_path / "run.pt"
    model = net()
    train(model, examples(), **{**ARGUMENTS, "epochs": 2}, checkpoint=path)
    train(model, examples(), **{**ARGUMENTS, "epochs": 3}, checkpoint=path)
    last = train(net(), examples(), **ARGUMENTS, checkpoint=path)
    assert last.weights_sha256 == train(net(), examples(), **ARGUMENTS).weights_sha256


CHILD = textwrap.dedent(
    """
    import sys, time
    import torch
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from lla.models import build
    from lla.training import train

    def run(path, on_epoch=None):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(600, 1, 32, 32, generator=generator)
        y = torch.randint(0, 10, (600,), generator=generator)
        result = train(build("lenet"), (x, y), epochs=12, batch_size=60, lr=0.01,
                       checkpoint=path, on_epoch=on_epoch)
        return result.weights_sha256

    if sys.argv[3] == "victim":
        run(sys.argv[2], lambda epoch, *_: print(epoch, flush=True))
    else:
        seen = []
        print(run(sys.argv[2], lambda epoch, *_: seen.append(epoch)), run(None), seen[0])
    """
)


def child(path, role, **options):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-W", "error", "-c", CHILD, root, str(path), role]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.hard_use("A training is killed: started again, it ends with bitwise the same weights")
def test_killed_run_continues_to_bitwise_the_same_weights(tmp_path):
    path = tmp_path / "run.pt"
    with child(path, "victim") as victim:
        for line in victim.stdout:
            if line.strip() == "3":
                break
        time.sleep(random.uniform(0, 0.2))
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    stored = checkpoints.read_checkpoint(path, models.build("lenet"))["epoch"]
    assert 2 <= stored < 12
    with child(path, "heir") as heir:
        continued, whole, first = heir.stdout.read().split(maxsplit=2)
    assert heir.returncode == 0
    assert continued == whole
    assert int(first) == stored + 1


def test_kept_epochs(tmp_path):
    path = tmp_path / "run.pt"
    train(net(), examples(), **ARGUMENTS, checkpoint=path, keep_epochs=(0, 2))
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == [
        "run-epoch0000.pt",
        "run-epoch0002.pt",
        "run.pt",
    ]
    model = net(seed=7)
    models.load_weights(model, kept_checkpoint(path, 0))
    assert weights_sha256(model) == weights_sha256(net())
    models.load_weights(model, kept_checkpoint(path, 2))
    two = train(net(), examples(), **{**ARGUMENTS, "epochs": 2})
    assert weights_sha256(model) == two.weights_sha256
    with pytest.raises(InputError, match="past epoch 1, which was not kept"):
        train(net(), examples(), **ARGUMENTS, checkpoint=path, keep_epochs=(1, 2))


def test_checkpoint_is_small_and_plain(tmp_path):
    path = tmp_path / "run.pt"
    train(net(width=512), examples(), **ARGUMENTS, checkpoint=path)
    weights = sum(tensor.nbytes for tensor in net(width=512).state_dict().values())
    assert path.stat().st_size < 3 * weights + 10_000
    content = torch.load(path, weights_only=True)
    assert content["epoch"] == 4
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty"])
def test_harmed_checkpoint_is_refused(tmp_path, harm):
    path = tmp_path / "run.pt"
    train(net(), examples(), **ARGUMENTS, checkpoint=path)
    content = bytearray(path.read_bytes())
    if harm == "flipped":
        weight = checkpoints.read_checkpoint(path, net())["state_dict"]["first.weight"]
        content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(
        {"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}[harm]
    )
    with pytest.raises(ChecksumError, match=r"run.pt"):
        train(net(), examples(), **ARGUMENTS, checkpoint=path)


def test_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "run.pt"
    train(net(), examples(), **ARGUMENTS, checkpoint=path)

    def again(model=None, data=None, **changes):
        return train(
            model or net(), data or examples(), **{**ARGUMENTS, **changes}, checkpoint=path
        )

    with pytest.raises(InputError, match=r"lr is 0.01 there and 0.02 here"):
        again(lr=0.02)
    with pytest.raises(InputError, match=r"weight_decay is .* there and 0\.1 here"):
        again(weight_decay=0.1)
    with pytest.raises(InputError, match=r"seed is 5 there and 6 here"):
        again(seed=6)
    with pytest.raises(InputError, match=r"batch_size is 32 there"):
        again(batch_size=16)
    with pytest.raises(InputError, match="initial_weights_sha256"):
        again(model=net(seed=1))
    with pytest.raises(InputError, match="data_sha256"):
        again(data=examples(150))
    with pytest.raises(InputError, match="4 epochs already"):
        again(epochs=3)
    with pytest.raises(InputError, match="another architecture than Net: it has shapes"):
        again(model=net(width=17))
    with pytest.raises(InputError, match="another architecture than MLP: it lacks"):
        again(model=models.build("mlp", num_classes=3, in_features=8))
    unfrozen = net()
    unfrozen.scale.requires_grad_(True)
    with pytest.raises(InputError, match="frozen"):
        again(model=unfrozen)
    torch.save({"anything": 1}, path)
    with pytest.raises(InputError, match="no checkpoint of a training"):
        again()


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    train(net(), examples(), **{**ARGUMENTS, "epochs": 2}, checkpoint=path)
    before = path.read_bytes()

    def full_disk(content, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        train(net(), examples(), **ARGUMENTS, checkpoint=path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    whole = train(net(), examples(), **ARGUMENTS)
    continued = train(net(), examples(), **ARGUMENTS, checkpoint=path)
    assert continued.weights_sha256 == whole.weights_sha256


def test_diverging_loss_names_epoch_and_step_and_keeps_the_last_checkpoint(tmp_path):
    class Bad(Net):
        steps = 0

        def forward(self, x):
            self.steps += self.training
            return super().forward(x) * (float("nan") if self.steps == 7 + 3 else 1)

    path = tmp_path / "run.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Bad()
    with pytest.raises(NonFiniteError, match="epoch 2 became nan at step 3:"):
        train(model, examples(), **ARGUMENTS, checkpoint=path)
    content = checkpoints.read_checkpoint(path, net())
    assert content["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in content["state_dict"].values())


def test_weights_that_blow_up_in_the_last_step_are_seen():
    model = net()
    model.last.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError, match="weights became NaN or infinite"):
        train(model, examples(32), epochs=1, batch_size=32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0: give a whole number from 1 on"),
        ({"epochs": 1.5}, "epochs is 1.5: give a whole number"),
        ({"batch_size": 0}, "batch_size is 0: give a whole number from 1 on"),
        ({"lr": float("nan")}, "lr is nan: give a positive number"),
        ({"lr": float("inf")}, "lr is inf: give a positive number that is finite"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001: give a finite number from 0 on"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"seed": -1}, "the seed -1 is negative"),
        ({"target_accuracy": 99.5}, "share in"),
        ({"keep_epochs": (-1,)}, "keep_epochs must be"),
        ({"keep_epochs": (1,)}, "needs a checkpoint"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(InputError, match=message):
        train(net(), examples(), **{**ARGUMENTS, **changes})


@pytest.mark.hard_use("A checkpoint of a training that cannot be written is found before it trains")
@pytest.mark.parametrize("where", ["file/run.pt", "/proc/none/run.pt"])
def test_a_checkpoint_that_cannot_be_written_is_found_before_the_training(tmp_path, where):
    (tmp_path / "file").write_text("a")
    model = net()
    before = weights_sha256(model)
    with pytest.raises(WriteError, match=f"{os.path.dirname(where)} (is no folder|cannot be wr)"):
        train(model, examples(), **ARGUMENTS, checkpoint=tmp_path / where)
    assert weights_sha256(model) == before


def test_data_that_do_not_fit_are_refused_before_the_training():
    x, y = examples()
    for data, message in (
        ((x, y[1:]), "labels"),
        ((x, y.float()), "float32"),
        ((x[:0], y[:0]), "N > 0"),
        ((x[:, 1:], y), "Net does not take inputs"),
        ((x.double(), y), "Net does not take inputs"),
        ((x, y + 1), "labels from 1 to 3"),
        ((x, y - 1), "labels from -1 to 1"),
    ):
        with pytest.raises(InputError, match=message):
            train(net(), data, **ARGUMENTS)
    frozen = net().requires_grad_(False)
    with pytest.raises(InputError, match="no trainable parameter"):
        train(frozen, (x, y), **ARGUMENTS)


def test_weights_hash_sees_names_shapes_dtypes_and_values():
    linear = nn.Linear(2, 3)
    first = weights_sha256(linear)
    copy = nn.Linear(2, 3)
    copy.load_state_dict(linear.state_dict())
    assert weights_sha256(copy) == first
    assert weights_sha256(nn.Sequential(copy)) != first  # names
    with torch.no_grad():
        copy.bias[0] += 1
    assert weights_sha256(copy) != first
    assert weights_sha256(linear.double()) != first
    flat = tensors_sha256([("a", torch.zeros(4))])
    assert tensors_sha256([("a", torch.zeros(2, 2))]) != flat
    last = torch.rand(1, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    assert tensors_sha256([("a", last)]) == tensors_sha256([("a", last.contiguous())])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_continued_run_ends_with_the_same_weights(tmp_path):
    data = tuple(tensor.cuda() for tensor in examples())
    path = tmp_path / "run.pt"
    before = torch.cuda.get_rng_state()
    whole = train(net().cuda(), data, **ARGUMENTS)
    train(net().cuda(), data, **{**ARGUMENTS, "epochs": 2}, checkpoint=path)
    rest = train(net().cuda(), data, **ARGUMENTS, checkpoint=path)
    assert rest.weights_sha256 == whole.weights_sha256
    assert torch.equal(torch.cuda.get_rng_state(), before)
