"""The only place where lla imports tqdm."""

import warnings

with warnings.catch_warnings():
    # in a notebook without ipywidgets, tqdm warns and then draws its bars as text: that will do
    warnings.filterwarnings("ignore", message="IProgress not found")
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
