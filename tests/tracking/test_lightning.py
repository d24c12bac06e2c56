"""The callback for Lightning's Trainer, with the real library and a small network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla import _torchvision

pytestmark = [
    # of lightning beside a newer torch
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    # of loaders without workers, and of loggers
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
]
_torchvision.import_torchvision()  # lightning imports it
pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

from lla.tracking.lightning import CriteriaCallback  # noqa: E402

FEW = {"steps": 4, "probes": 2, "target_stderr": None, "strict": True, "share": 1.0}


class Net(pl.LightningModule):
    """A network with BatchNorm and dropout that logs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)
        )

    def forward(self, x):
        return self.body(x)

    def training_step(self, batch, index):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


X, Y = torch.randn(64, 4, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 3


class Logger(pl.loggers.logger.DummyLogger):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def log_metrics(self, metrics, step=None):
        self.kept.append((step, dict(metrics)))


class Examples(torch.utils.data.Dataset):
    """The examples; it can let a clock run."""

    def __init__(self, on_read=lambda: None):
        self.on_read = on_read

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        self.on_read()
        return X[index], Y[index]


def train(callbacks, data=None, **options):
    """Train 8 steps in 2 epochs; the network, its trainer and what was logged."""
    torch.manual_seed(3)
    net, logger = Net(), Logger()
    given = {"max_epochs": 2, "enable_checkpointing": False, **options}
    trainer = pl.Trainer(
        accelerator="cpu", logger=logger, callbacks=callbacks, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=3, **given,
    )  # fmt: skip
    trainer.fit(net, torch.utils.data.DataLoader(data or Examples(), 16, shuffle=True))
    return net, trainer, logger.kept


def moments(trainer):
    (optimizer,) = trainer.optimizers
    return [v for each in optimizer.state.values() for v in each.values()]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "bf16-mixed"}, {"accumulate_grad_batches": 2, "max_epochs": 4}],
    ids=["plain", "bf16", "accumulating"],
)
def test_a_training_is_followed_and_ends_at_the_same_bits(options, mode):
    plain, first, own = train([], **options)
    callback = CriteriaCallback((X, Y), every=4, mode=mode, **FEW)
    net, second, logged = train([callback], **options)

    rows = callback.tracker.rows
    assert [row.step for row in rows] == [4, 8]
    pairs = zip(plain.state_dict().values(), net.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    pairs = zip(moments(first), moments(second), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert [line for line in logged if "loss" in line[1]] == own
    assert [line for line in logged if "loss" not in line[1]] == [
        (row.step, {**row.scalars(), "epoch": row.epoch}) for row in rows
    ]

    alone = Net()
    alone.load_state_dict(net.state_dict())
    expected = lla.criteria(alone, (X, Y), mode, steps=4, probes=2)
    assert (rows[-1].re, rows[-1].kh1) == (expected.re.value, expected.kh1.value)


def test_the_share_of_the_time_holds(clock):
    def read():
        clock.now += 1 / 16  # a step of 16 examples takes a second

    clock.cost = 4.0
    callback = CriteriaCallback((X, Y), **{**FEW, "every": 10, "share": 0.1, "most_epochs": 100})
    train([callback], Examples(read), max_epochs=30)
    # 4 n <= 0.1 (step + 4 n) seconds, but for the first
    assert [row.step for row in callback.tracker.rows] == pytest.approx([10, 73, 109], abs=2)
    assert callback.tracker.share_spent == pytest.approx(12 / 132, rel=0.02)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_a_training_that_goes_on_begins_at_its_step(tmp_path):
    path = tmp_path / "criteria.csv"
    options = {"every": 3, "csv": path, "resume": True, **FEW}
    saving = pl.callbacks.ModelCheckpoint(tmp_path, "last", every_n_train_steps=5)
    train([CriteriaCallback((X, Y), **options), saving], enable_checkpointing=True, max_steps=7)
    callback = CriteriaCallback((X, Y), **options)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[callback, saving],
        enable_progress_bar=False, enable_model_summary=False, max_steps=12,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(Examples(), 16, shuffle=True)
    trainer.fit(Net(), loader, ckpt_path=tmp_path / "last.ckpt")
    assert [row.step for row in callback.tracker.rows] == [3, 6, 9, 12]


def test_options_are_refused_when_the_training_begins():
    with pytest.raises(lla.InputError, match="every is 0"):
        train([CriteriaCallback((X, Y), every=0)])


def test_a_loss_of_ones_own():
    def loss(output, y):
        return F.cross_entropy(output, y, label_smoothing=0.1)

    callback = CriteriaCallback((X, Y), every=8, loss=loss, **FEW)
    net, _, _ = train([callback])
    with torch.no_grad():
        assert callback.tracker.rows[-1].loss == pytest.approx(loss(net.eval()(X), Y).item())
