"""A small language model on random words, for the costs of attention with a causal mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import lla
from benchmarks.problems import device, one_pass


class SmallGPT(nn.Module):
    """Blocks of causal attention, with the normalisation first as in GPT-2.

    Args:
        words: in the vocabulary.
        length: of a text.
        width: of an embedding.
        blocks: how many.
        heads: of attention in each block, which share the width.
    """

    def __init__(self, words: int, length: int, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Embedding(length, width)
        block = nn.TransformerEncoderLayer(
            width,
            heads,
            4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(block, blocks, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, texts: Tensor) -> Tensor:
        """Logits [N, words, T] of the next word at each place of the texts [N, T]."""
        length = texts.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=texts.device)
        x = self.words(texts) + self.places(torch.arange(length, device=texts.device))
        x = self.blocks(x, mask=mask, is_causal=True)
        return self.head(self.norm(x)).transpose(1, 2)


@dataclass(frozen=True)
class LanguageCase:
    """A small GPT and a batch of random words."""

    batch: int
    length: int
    width: int = 256
    blocks: int = 4
    words: int = 512
    heads: int = 4

    name = "gpt"

    @property
    def shape(self) -> tuple[int, ...]:
        """What determines the work of a text: its length, and the sizes of the network."""
        return self.length, self.width, self.blocks, self.words, self.heads

    def __str__(self) -> str:
        return f"gpt {self.batch} of {self.length} words"

    def make(self) -> tuple[lla.Problem, Callable[[], None]]:
        """The problem, and one forward and backward pass in ordinary PyTorch."""
        with torch.random.fork_rng():  # the caller's random state stays
            torch.manual_seed(0)
            model = SmallGPT(self.words, self.length, self.width, self.blocks, self.heads)
        generator = torch.Generator().manual_seed(0)
        texts = torch.randint(self.words, (self.batch, self.length + 1), generator=generator)
        texts, model = texts.to(device()), model.eval().to(device())
        batch = texts[:, :-1], texts[:, 1:]
        return lla.Problem(model, batch), one_pass(model, [batch])
