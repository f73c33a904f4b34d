"""nerfstudio's `config.yml`, read without running code that it names.

nerfstudio dumps its config as Python objects and reads it back with a YAML loader that calls whatever the file says.
A model from a stranger could run anything. Here only what nerfstudio itself writes is built: its config classes,
its enumerations, references to its classes, and paths.
"""

from __future__ import annotations

import dataclasses
import importlib
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from jobs.errors import InvalidInput

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

__all__ = ["read_config"]

# The last two are what jobs.model.save_config writes, getitem what DataManager[Dataset] becomes.
_CALLED = ("pathlib.PosixPath", "pathlib.WindowsPath", "_operator.getitem", "posixpath.abspath", "tempfile.gettempdir")
# Python 3.13 names the classes of its paths by a private module, which other versions do not have.
_PRIVATE = "pathlib._local."
_FUNCTIONS = ("nerfstudio.data.utils.nerfstudio_collate.nerfstudio_collate",)
_MODULES = ("nerfstudio.", "torch.optim.")


def read_config(file: Path) -> TrainerConfig:
    """Read a config that nerfstudio wrote.

    Raises:
        InvalidInput: it names something else than parts of a nerfstudio config, or is no YAML.
    """
    try:
        with file.open("rb") as stream:
            config: TrainerConfig = yaml.load(stream, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"{file} is not a config that nerfstudio wrote: {getattr(error, 'problem', None) or error}. "
            "Do not use a model from someone you do not trust; train it again, or fetch it again."
        ) from None
    return config


class _Loader(yaml.Loader):  # type: ignore[misc]
    """Builds Python objects, of an allow list only."""

    def find_python_module(self, name: str, mark: Any) -> Any:
        raise _refusal(name, mark)

    def find_python_name(self, name: str, mark: Any) -> Any:
        name = _public(name)
        module, attribute = name.rpartition(".")[::2]
        if name not in _CALLED and not f"{module}.".startswith(_MODULES):
            raise _refusal(name, mark)
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            raise yaml.constructor.ConstructorError(None, None, f"there is no {name} here", mark) from None
        if name not in (*_CALLED, *_FUNCTIONS) and not isinstance(found, type):
            raise _refusal(name, mark)
        return found

    def make_python_instance(
        self,
        suffix: str,
        node: Any,
        args: list[Any] | None = None,
        kwds: dict[str, Any] | None = None,
        newobj: bool = False,
    ) -> Any:
        found = self.find_python_name(suffix, node.start_mark)
        fits = dataclasses.is_dataclass(found) if newobj else _public(suffix) in _CALLED or issubclass(found, Enum)
        if not fits:
            raise _refusal(suffix, node.start_mark)
        return super().make_python_instance(suffix, node, args, kwds, newobj)


def _public(name: str) -> str:
    return f"pathlib.{name.removeprefix(_PRIVATE)}" if name.startswith(_PRIVATE) else name


def _refusal(name: str, mark: Any) -> Exception:
    problem = f"it names {name}, which no config of nerfstudio does"
    error: Exception = yaml.constructor.ConstructorError(None, None, problem, mark)
    return error
