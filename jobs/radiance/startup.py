"""Defer the import of torch's compiler, which takes longer than importing nerfstudio.

Modules that nerfstudio imports load `torch._dynamo` and `torch._inductor`, although the methods here do not need them,
or need them only later:

- `torchvision.models` imports `torchvision.ops`, which asks `torch._dynamo` whether it can compile;
- some metrics of torchmetrics that nothing here uses take functions from these two;
- `nerfstudio.models.splatfacto`, which the viewer imports, prepares a function with `torch.compile`.

The torchvision modules are now loaded on first use, and those metrics do without them. The function of splatfacto is
compiled when it is first called.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["defer_the_compiler"]


def defer_the_compiler() -> None:
    """Change how the modules above are imported from now on. Modules that are already imported do not change."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _LOADERS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = _LOADERS[name](spec.loader)
        return spec


class _Wrapper(Loader):
    """Loads a module as another loader does, except for how it executes it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)


class _LoadingLater(_Wrapper):
    """Executes a module at the first access to an attribute that it does not have yet.

    importlib's own `LazyLoader` does so for any attribute. But `inspect.getmodule` reads the `__file__` of every
    module, and torch calls it in the middle of an import, which would become circular.
    """

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__load__"] = _Once(self._loader)
        module.__class__ = _Module


class _Once:
    """Execute a module once, whichever thread needs it first."""

    def __init__(self, loader: Loader) -> None:
        self._loader, self._lock, self._begun = loader, threading.RLock(), False

    def __call__(self, module: ModuleType) -> None:
        with self._lock:  # other threads wait here; the module itself, while it is executed, does not
            if not self._begun:
                self._begun = True
                self._loader.exec_module(module)


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__["__load__"](self)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None


class _WithoutTorchvision(_Wrapper):
    """Executes a module of torchmetrics as if torchvision were not installed."""

    def exec_module(self, module: ModuleType) -> None:
        known: Any = importlib.import_module("torchmetrics.utilities.imports")
        available = known._TORCHVISION_AVAILABLE
        known._TORCHVISION_AVAILABLE = False
        try:
            self._loader.exec_module(module)
        finally:
            known._TORCHVISION_AVAILABLE = available


class _CompilingLater(_Wrapper):
    """Executes a module in which `torch.compile` compiles on first call."""

    def exec_module(self, module: ModuleType) -> None:
        import torch

        compile_now = torch.compile
        torch.compile = functools.partial(_compile_later, compile_now)
        try:
            self._loader.exec_module(module)
        finally:
            torch.compile = compile_now


def _compile_later(compile_now: Callable[..., Any], function: Any = None, **options: Any) -> Any:
    """Compile a function when it is first called."""
    if function is None:  # as a decorator
        return functools.partial(_compile_later, compile_now, **options)
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if not compiled:
            compiled.append(compile_now(function, **options))
        return compiled[0](*arguments, **named)

    return call


_METRICS = ("detection.ciou", "detection.diou", "detection.giou", "detection.iou", "image.arniqa", "image.dists")
_LOADERS: dict[str, type[_Wrapper]] = {
    "nerfstudio.models.splatfacto": _CompilingLater,
    **dict.fromkeys(("torchvision.models", "torchvision.ops"), _LoadingLater),
    **dict.fromkeys((f"torchmetrics.functional.{name}" for name in _METRICS), _WithoutTorchvision),
}
