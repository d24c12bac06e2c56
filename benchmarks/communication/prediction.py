"""Bytes and seconds of Hessian products on several GPUs, on paper.

A product sums P numbers over n ranks. A ring sends each number 2 (n - 1) / n times from each rank
(Patarasuk and Yuan, 2009, section 3). A Lanczos step also gathers the next vector from its parts,
(n - 1) / n of P numbers from each rank. A product takes the FLOPs of 6 forward passes, see
`benchmarks.cost_model.measurement`.
"""

from __future__ import annotations

from dataclasses import dataclass

NUMBER = 4  # bytes, float32
FORWARDS = 6  # passes whose FLOPs a product takes


@dataclass(frozen=True)
class Network:
    """A network as costs see it.

    Attributes:
        name: as it is called.
        parameters: P.
        flops: of a forward pass of one example.
        examples: of the whole data, as many as ImageNet has.
    """

    name: str
    parameters: int
    flops: float
    examples: int = 1_281_167


NETWORKS = (
    Network("ResNet50, 224 px", 25_557_032, 8.18e9),
    Network("ViT-B/16, 224 px", 86_567_656, 35.1e9),
    Network("GPT-2 small, 1024 tokens", 124_439_808, 293e9),
)


@dataclass(frozen=True)
class Machine:
    """GPUs and what joins them; what is assumed, not measured.

    Attributes:
        flops: FLOP/s that a GPU reaches.
        memory: bytes/s of its memory.
        node: GPUs of a node.
        inside: bytes/s that a GPU sends inside a node.
        between: bytes/s that a GPU sends to other nodes.
        start: seconds of one hop of a collective.
    """

    flops: float = 10e12
    memory: float = 1.5e12
    node: int = 8
    inside: float = 230e9
    between: float = 20e9
    start: float = 10e-6

    def link(self, ranks: int) -> float:
        """Bytes/s of the slowest link of a ring through all ranks."""
        return self.inside if ranks <= self.node else self.between


A100 = Machine()


def reduced(parameters: int, ranks: int) -> float:
    """Bytes that each rank sends in the one reduction of a product.

    >>> reduced(1000, 4)
    6000.0
    """
    return 2 * gathered(parameters, ranks)


def gathered(parameters: int, ranks: int) -> float:
    """Bytes that each rank sends where a vector is put together from its parts."""
    return (ranks - 1) / ranks * NUMBER * parameters


def computing(network: Network, examples: float, machine: Machine = A100) -> float:
    """Seconds that a GPU computes in a product over its examples."""
    return FORWARDS * network.flops * examples / machine.flops


def sending(network: Network, ranks: int, machine: Machine = A100) -> float:
    """Seconds that a reduction takes."""
    hops = 2 * (ranks - 1) * machine.start
    return reduced(network.parameters, ranks) / machine.link(ranks) + hops


def basis_saves(network: Network, ranks: int, steps: int, machine: Machine = A100) -> float:
    """Seconds a Lanczos step that a split basis saves: less memory is read, but a vector is sent.

    Full reorthogonalisation, done twice, reads the vectors so far four times, on average half of
    them.

    Args:
        network: gives P.
        ranks: that share the basis.
        steps: Lanczos vectors, m.
        machine: gives the speeds.

    Returns:
        Seconds; negative where it costs more than it saves.
    """
    if ranks == 1:
        return 0.0
    read = 4 * (steps / 2) * NUMBER * network.parameters / machine.memory
    sent = gathered(network.parameters, ranks) / machine.link(ranks)
    return read * (1 - 1 / ranks) - sent - (ranks - 1) * machine.start
