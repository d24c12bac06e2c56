"""A plugin that tox loads from beside tox.ini: one virtual environment, and who speaks last.

tox remembers the name of the environment that made a folder, and empties the folder when an
environment of another name comes to it. Here all of them have the same dependencies, torch among
them, and `runner = shared` lets each use what another installed. A change of the dependencies, of
constraints.txt or of Python is noticed as ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


class _SharedInfo(Info):
    """What tox remembers of a folder, the environment's name left out."""

    @contextmanager
    def compare(
        self, value: Any, section: str, sub_section: str | None = None
    ) -> Iterator[tuple[bool, Any]]:
        if section == ToxEnv.__name__:
            value = {**value, "name": SharedRunner.id()}
        with super().compare(value, section, sub_section) as outcome:
            yield outcome


class SharedRunner(VirtualEnvRunner):
    """tox's own runner, for environments that differ in nothing but their commands."""

    @staticmethod
    def id() -> str:
        """Return the name under which tox.ini asks for this runner."""
        return "shared"

    @property
    def cache(self) -> Info:
        """What tox remembers of the environment's folder."""
        return _SharedInfo(self.env_dir)


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    """Make the runner known to tox."""
    register.add_run_env(SharedRunner)


@impl
def tox_after_run_commands(tox_env: ToxEnv, exit_code: int) -> None:
    """Leave the last words to the tables, which say what came of the claims."""
    alone = str(tox_env.options.env) == tox_env.name == "tables"
    if alone and exit_code == 0:
        tox_env.options.quiet = tox_env.options.verbose  # tox would congratulate
