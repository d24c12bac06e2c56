import os
from dataclasses import replace

import pytest

from lla.data import files, registry


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder instead of the user's."""
    folder = tmp_path / "user-cache"
    monkeypatch.setattr(files, "cache_folder", lambda: folder)
    return folder


@pytest.fixture
def no_data_root(monkeypatch):
    monkeypatch.delenv("LLA_DATA", raising=False)


@pytest.fixture
def lla_data():
    root = os.environ.get("LLA_DATA")
    if not root:
        pytest.skip("LLA_DATA names no data root")
    return root


@pytest.fixture
def expect(monkeypatch):
    """Let the registry expect the given files: `expect(name, form, {split: (File, ...)})`."""

    def change(name, form, files, **entry_changes):
        entry = registry.SETS[name]
        forms = list(entry.forms)
        forms[form] = replace(forms[form], files=files)
        entry = replace(entry, forms=tuple(forms), **entry_changes)
        monkeypatch.setitem(registry.SETS, name, entry)

    return change
