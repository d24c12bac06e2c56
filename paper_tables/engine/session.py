"""A cache for the results of functions of settings; it lasts for one session of the suites."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class SessionCache:
    """The latest results of functions that several cells call with the same arguments.

    A network, its batch or its eigenvectors take long to make, and the cells that need them come
    one after another. Each `Settings` has a cache of its own: two sessions in one process share
    nothing, and the results of a session are freed with its settings.
    """

    def __init__(self) -> None:
        self._results: dict[object, OrderedDict[tuple[object, ...], Any]] = {}

    def get(self, key: object, arguments: tuple[object, ...], size: int | None,
            compute: Callable[[], T]) -> T:  # fmt: skip
        """The kept result of a function for some arguments, computed first if there is none.

        Args:
            key: the function.
            arguments: hashable.
            size: how many results of the function are kept; None keeps all.
            compute: makes the result.
        """
        kept = self._results.setdefault(key, OrderedDict())
        if arguments not in kept:
            if size is not None and len(kept) >= size:
                kept.popitem(last=False)  # first, because memory holds only one network
            kept[arguments] = compute()
        kept.move_to_end(arguments)
        result: T = kept[arguments]
        return result


class _HasCache(Protocol):
    @property
    def cache(self) -> SessionCache: ...


S = TypeVar("S", bound=_HasCache)


def session_cached(
    size: int | None = None,
) -> Callable[[Callable[Concatenate[S, P], T]], Callable[Concatenate[S, P], T]]:
    """Keep the results of a function of settings and hashable arguments in the session.

    Args:
        size: how many results are kept, the latest used; None keeps all.
    """

    def decorate(function: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
        @functools.wraps(function)
        def cached(settings: S, *args: P.args, **options: P.kwargs) -> T:
            return settings.cache.get(
                function,
                (args, tuple(sorted(options.items()))),
                size,
                lambda: function(settings, *args, **options),
            )

        return cached

    return decorate
