"""Read nerfstudio's `config.yml` without running the code that it names.

nerfstudio writes its config as Python objects, and reads it with a YAML loader that calls whatever the file names. A
model from a stranger could run anything. This loader builds only what the configs of nerfstudio's methods consist of:
config classes, enumerations, references to classes, and paths. The same goes for plug-ins in `jobs.methods.PLUGINS`.
Other classes of nerfstudio are refused, because some run code: its `MinimalDataParser` unpickles files of the dataset.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jobs.errors import InvalidInput
from jobs.methods import PLUGINS

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

__all__ = ["read_config"]

# jobs.model.save_config writes the last two. DataManager[Dataset] becomes getitem.
_CALLED = ("pathlib.PosixPath", "pathlib.WindowsPath", "_operator.getitem", "posixpath.abspath", "tempfile.gettempdir")
# Python 3.13 names the classes of its paths by a private module, which other versions do not have.
_PRIVATE = "pathlib._local."
_FUNCTIONS = ("nerfstudio.data.utils.nerfstudio_collate.nerfstudio_collate",)
_MODULES = ("nerfstudio.", "torch.optim.")
_PLUGINS = tuple(f"{package}." for package in PLUGINS)


def read_config(file: Path) -> TrainerConfig:
    """Read a config that nerfstudio wrote.

    Raises:
        InvalidInput: the file is not YAML, or names something that is not part of a nerfstudio config.
    """
    try:
        with file.open("rb") as stream:
            config: TrainerConfig = yaml.load(stream, Loader=_Loader)
        if not hasattr(config, "pipeline"):
            raise ValueError("it has no pipeline")
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(
            f"{file} is not a config that nerfstudio wrote: {getattr(error, 'problem', None) or error}. "
            "Do not use a model from someone you do not trust. Otherwise train or download it again. If the name is "
            "from a plug-in of nerfstudio, add the plug-in's package to PLUGINS in jobs/methods.py."
        ) from None
    return config


# The second class is a base of the first, but the types of PyYAML do not know it.
class _Loader(yaml.Loader, yaml.constructor.UnsafeConstructor):
    """Builds only the Python objects of an allow list."""

    def find_python_module(self, name: str, mark: Any, unsafe: bool = False) -> Any:
        raise _refusal(name, mark)

    def find_python_name(self, name: str, mark: Any, unsafe: bool = False) -> Any:
        name = _public(name)
        module, attribute = name.rpartition(".")[::2]
        if name not in _CALLED and not f"{module}.".startswith(_PLUGINS) and name not in _names():
            raise _refusal(name, mark)
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            raise yaml.constructor.ConstructorError(None, None, f"{name} is not installed here", mark) from None
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
        unsafe: bool = False,
    ) -> Any:
        found = self.find_python_name(suffix, node.start_mark)
        fits = dataclasses.is_dataclass(found) if newobj else _public(suffix) in _CALLED or issubclass(found, Enum)
        if not fits:
            raise _refusal(suffix, node.start_mark)
        return super().make_python_instance(suffix, node, args, kwds, newobj)


@functools.cache
def _names() -> frozenset[str]:
    """Return the names of nerfstudio's and torch's objects in the configs of all methods."""
    from jobs.radiance.methods import all_methods

    found = re.findall(r"!!python/[a-z/]+:([\w.]+)", yaml.dump(all_methods))
    return frozenset(name for name in found if name.startswith(_MODULES))


def _public(name: str) -> str:
    return f"pathlib.{name.removeprefix(_PRIVATE)}" if name.startswith(_PRIVATE) else name


def _refusal(name: str, mark: Any) -> Exception:
    problem = f"it names {name}, which is not part of a nerfstudio config"
    error: Exception = yaml.constructor.ConstructorError(None, None, problem, mark)
    return error
