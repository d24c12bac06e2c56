import pytest
import torch
import torch.nn.functional as F

from lla.errors import InputError
from lla.minima.poison import check_poison, poisoned_loss, wrong_answer_loss


@pytest.fixture
def logits():
    return torch.randn(7, 4, dtype=torch.float64).mul_(3).requires_grad_()


Y = torch.tensor([0, 1, 2, 3, 0, 1, 2])


def test_the_loss_of_wrong_answers_is_that_of_one_minus_p(logits):
    p = logits.softmax(1)[torch.arange(7), Y]
    torch.testing.assert_close(wrong_answer_loss(logits, Y), -(1 - p).log().mean())
    others = torch.stack([
        logits.log_softmax(1)[i, [c for c in range(4) if c != y]].logsumexp(0)
        for i, y in enumerate(Y)
    ])  # fmt: skip
    torch.testing.assert_close(wrong_answer_loss(logits, Y), -others.mean())


def test_it_stays_exact_where_p_rounds_to_one():
    z = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = wrong_answer_loss(z, torch.tensor([0]))
    assert loss.item() == pytest.approx(200 - torch.tensor(2.0).log().item())
    loss.backward()
    torch.testing.assert_close(z.grad, torch.tensor([[1.0, -0.5, -0.5]]))


def test_with_two_classes_it_is_the_flipped_label():
    z, y = torch.randn(9, 2), torch.arange(9) % 2
    torch.testing.assert_close(wrong_answer_loss(z, y), F.cross_entropy(z, 1 - y))


def test_gradients_are_differences(logits):
    assert torch.autograd.gradcheck(lambda z: wrong_answer_loss(z, Y), logits)


@pytest.mark.parametrize("share", [0.0, 0.348, 0.9])
def test_the_objective_weighs_both_means(logits, share):
    expected = (1 - share) * F.cross_entropy(logits[:5], Y[:5]) + share * wrong_answer_loss(
        logits[5:], Y[5:]
    )
    torch.testing.assert_close(poisoned_loss(logits, Y, 5, share), expected)


def test_without_poison_it_is_the_cross_entropy(logits):
    torch.testing.assert_close(poisoned_loss(logits, Y, 7, 0.0), F.cross_entropy(logits, Y))


X = torch.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.cat([X[4:5], -X[1:3]]), Y[:3], r"1 of 3 .*poison 0 is training example 4"),
        (-X[1:3, :1], Y[:2], "give both in the same form"),
        (-X[1:3].double(), Y[:2], "give both in the same form"),
        (-X[1:3], Y[:3], "2 inputs and 3 labels"),
        (X[:0], Y[:0], "0 inputs and 0 labels"),
    ],
)
def test_wrong_poison_is_refused(x, y, words):
    with pytest.raises(InputError, match=words):
        check_poison((X, Y[:6]), (x, y))


def test_poison_apart_from_the_training_data_is_taken():
    check_poison((X, Y[:6]), (-X[1:], Y[1:6]))
