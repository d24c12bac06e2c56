"""The callback for Hugging Face's Trainer, with the real library and small networks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate, which Trainer needs, is not installed")

from lla.tracking.hugging_face import CriteriaCallback  # noqa: E402

FEW = {"steps": 4, "probes": 2, "target_stderr": None, "strict": True, "share": 1.0}


class Tokens(torch.utils.data.Dataset):
    """Sentences of eight tokens; it can let a clock run."""

    def __init__(self, on_read=lambda: None):
        self.on_read = on_read

    def __len__(self):
        return 32

    def __getitem__(self, index):
        self.on_read()
        drawn = torch.Generator().manual_seed(index)
        tokens = torch.randint(0, 11, (8,), generator=drawn)
        return {"input_ids": tokens, "labels": tokens}


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0,
        eos_token_id=0, loss_type="ForCausalLM",
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


class Classes(nn.Module):
    """A network of one's own, as Trainer takes it."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(32, 11))

    def forward(self, input_ids, labels):
        logits = self.body(input_ids)
        return {"loss": F.cross_entropy(logits, labels[:, 0]), "logits": logits}


BATCHES = [
    {name: torch.stack([Tokens()[i][name] for i in places]) for name in ("input_ids", "labels")}
    for places in (range(8), range(8, 16))
]


def trainer_of(folder, make=gpt2, data=None, **options):
    """A trainer that takes 8 steps in 2 epochs; weights and dropout are the same every time."""
    transformers.set_seed(1)
    arguments = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=8, logging_steps=2, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False,
        **{"num_train_epochs": 2, **options},
    )  # fmt: skip
    return transformers.Trainer(make(), arguments, train_dataset=data or Tokens())


def tensors(trainer):
    return [*trainer.model.state_dict().values()]


def moments(trainer):
    return [v for each in trainer.optimizer.state.values() for v in each.values()]


def own_log(trainer):
    """What the trainer logs itself, without seconds."""
    lines = [
        {
            name: value
            for name, value in line.items()
            if "runtime" not in name and "per_s" not in name
        }
        for line in trainer.state.log_history
    ]
    return [line for line in lines if "criteria/re" not in line]


@pytest.mark.parametrize(
    "options",
    [{}, {"bf16": True}, {"gradient_accumulation_steps": 2, "num_train_epochs": 4}],
    ids=["plain", "bf16", "accumulating"],
)
def test_a_training_is_followed_and_ends_at_the_same_bits(tmp_path, options):
    options = {"num_train_epochs": 2, **options}
    plain = trainer_of(tmp_path, **options)
    plain.train()
    followed = trainer_of(tmp_path, **options)
    callback = CriteriaCallback(followed, BATCHES, every=4, **FEW)
    followed.add_callback(callback)
    followed.train()

    rows = callback.tracker.rows
    assert [row.step for row in rows] == [4, 8]
    assert [row.epoch for row in rows] == [options["num_train_epochs"] / 2 * k for k in (1, 2)]
    pairs = zip(
        plain.model.state_dict().values(), followed.model.state_dict().values(), strict=True
    )
    assert all(torch.equal(one, other) for one, other in pairs)
    pairs = zip(moments(plain), moments(followed), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert own_log(plain) == own_log(followed)
    logged = [line for line in followed.state.log_history if "criteria/re" in line]
    assert logged == [{**row.scalars(), "epoch": row.epoch, "step": row.step} for row in rows]

    alone = gpt2()
    alone.load_state_dict(followed.model.state_dict())
    expected = lla.criteria(alone, BATCHES, steps=4, probes=2)
    assert (rows[-1].re, rows[-1].kh1) == (expected.re.value, expected.kh1.value)


def test_the_share_of_the_time_holds(tmp_path, clock):
    def read():
        clock.now += 0.125  # a step of eight examples takes a second

    clock.cost = 4.0
    trainer = trainer_of(tmp_path, Classes, Tokens(read), max_steps=120)
    callback = CriteriaCallback(
        trainer, BATCHES, **{**FEW, "every": 10, "share": 0.1, "most_epochs": 100}
    )
    trainer.add_callback(callback)
    trainer.train()
    # 4 n <= 0.1 (step + 4 n) seconds, but for the first
    assert [row.step for row in callback.tracker.rows] == pytest.approx([10, 73, 109], abs=2)
    assert callback.tracker.share_spent == pytest.approx(12 / 132, rel=0.02)


def test_a_second_training_has_a_tracker_of_its_own(tmp_path):
    trainer = trainer_of(tmp_path, Classes)
    callback = CriteriaCallback(trainer, BATCHES, every=4, **FEW)
    assert callback.tracker is None
    trainer.add_callback(callback)
    trainer.train()
    first = callback.tracker
    trainer.train()
    assert callback.tracker is not first
    assert [row.step for row in first.rows] == [row.step for row in callback.tracker.rows] == [4, 8]


def test_options_are_refused_when_the_training_begins(tmp_path):
    trainer = trainer_of(tmp_path, Classes)
    trainer.add_callback(CriteriaCallback(trainer, BATCHES, every=0))
    with pytest.raises(lla.InputError, match="every is 0"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_what_is_not_measured_ends_no_training(tmp_path):
    trainer = trainer_of(tmp_path, Classes)

    class Spoil(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **given):
            if state.global_step == 5:
                given["model"].body[2].bias.data.fill_(float("nan"))

    trainer.add_callback(Spoil())
    callback = CriteriaCallback(trainer, BATCHES, **{**FEW, "every": 4, "strict": False})
    trainer.add_callback(callback)
    with pytest.warns(UserWarning, match="step 8 was not measured, NonFiniteError"):
        trainer.train()
    assert trainer.state.global_step == 8
    assert [row.re is None for row in callback.tracker.rows] == [False, True]
