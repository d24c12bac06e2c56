"""Files of unfinished work, from which the same work is continued, and no other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch.utils import _pytree as pytree

from lla.batches import raw_bytes
from lla.errors import ChecksumError, InputError
from lla.files import check_folder, writing
from lla.ranks import ALONE, Ranks
from lla.storage import load_result

SAVE_EVERY = 10.0  # seconds between two writings of a file


class _Unfinished(Protocol):
    @property
    def fingerprint(self) -> str: ...


T = TypeVar("T", bound=_Unfinished)


def fingerprint(*parts: Any) -> str:
    """Hash of what determines some work: the tensors and texts in nested containers, in order.

    >>> fingerprint(torch.ones(2), "seed 0") == fingerprint([torch.ones(2)], "seed 0")
    True
    """
    digest = hashlib.blake2b(digest_size=16)
    for leaf in pytree.tree_leaves(parts):
        if isinstance(leaf, torch.Tensor):
            digest.update(raw_bytes(leaf))
        elif isinstance(leaf, str):
            digest.update(leaf.encode())
    return digest.hexdigest()


def check_checkpoint(path: Path, ranks: Ranks = ALONE) -> None:
    """Find out, before anything is computed, whether a checkpoint can be written.

    Args:
        path: of the file.
        ranks: processes that all call this; what one finds, all raise.

    Raises:
        InputError: its folder does not exist, or it is no file.
        WriteError: nothing can be written there.
    """
    with ranks.agreed():
        with writing(path):
            if not path.parent.is_dir():
                raise InputError(
                    f"the folder of the checkpoint {path} does not exist: make it first"
                )
            if path.exists() and not path.is_file():
                raise InputError(f"the checkpoint {path} is no file: name another")
        check_folder(path.parent)


def read_unfinished(
    cls: type[T],
    path: Path,
    expected: str,
    holds: tuple[str, str],
    faults: Callable[[T], Iterator[str]] = lambda _: iter(()),
) -> T:
    """What the file of some work holds.

    Args:
        cls: of its content.
        path: of the file.
        expected: fingerprint of the work.
        holds: what the file holds, without and with "another": ("this plane", "the values of
            another plane").
        faults: yields what is wrong with the content.

    Raises:
        InputError: it is of other work.
        ChecksumError: it cannot be read, or its arrays do not fit the work.
    """
    found = load_result(cls, path)
    this, other = holds
    if found.fingerprint != expected:
        raise InputError(f"{path} holds {other}: remove it, or take another checkpoint")
    fault = next(faults(found), None)
    if fault is not None:
        raise ChecksumError(f"{path} is no checkpoint of {this}, as {fault}: remove it")
    return found


def read_shared(
    cls: type[T],
    path: Path | None,
    expected: str,
    holds: tuple[str, str],
    faults: Callable[[T], Iterator[str]] = lambda _: iter(()),
    ranks: Ranks = ALONE,
) -> T | None:
    """What the file of some work holds, in all processes that share the work.

    The first process reads it and tells the others. Arguments and errors are those of
    `read_unfinished`; None without a path or a file.
    """
    if path is None:
        return None
    found: T | None = None
    with ranks.agreed():
        if ranks.rank == 0 and path.exists():
            found = read_unfinished(cls, path, expected, holds, faults)
    return ranks.of(0, found)
