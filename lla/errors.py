"""The errors that the library raises at its door.

Each is also the built-in error that a caller would expect, so `except ValueError` keeps working.
A message is one sentence: what is wrong, with which value, what to do.
"""


class InputError(ValueError):
    """An argument, a model or a batch that cannot be used as given."""


class NonFiniteError(ArithmeticError):
    """A loss, a gradient or a product that is NaN or infinite: no number is made from it."""


class MissingDataError(FileNotFoundError):
    """A data set or a weight file that is neither found nor downloadable."""


class ChecksumError(OSError):
    """A file whose content is not the one expected: truncated, altered, or another file."""
