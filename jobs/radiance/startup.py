"""Defer the import of torch's compiler, which takes longer than importing nerfstudio.

Two modules that nerfstudio imports load `torch._dynamo` and `torch._inductor`, although the methods here do not need
them, or need them only later:

- `torchvision.models` imports `torchvision.ops`, which asks `torch._dynamo` whether it can compile;
- `nerfstudio.models.splatfacto`, which the viewer imports, prepares a function with `torch.compile`.

The torchvision modules are now loaded on first use. The function of splatfacto is compiled when it is first called.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

__all__ = ["defer_the_compiler"]

_LAZY = ("torchvision.models", "torchvision.ops")
_COMPILED_LATER = "nerfstudio.models.splatfacto"


def defer_the_compiler() -> None:
    """Change how the modules above are imported from now on. Modules that are already imported do not change."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in (*_LAZY, _COMPILED_LATER):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader) if name in _LAZY else _CompilingLater(spec.loader)
        return spec


class _CompilingLater(Loader):
    """Executes a module in which `torch.compile` compiles on first call."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

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
