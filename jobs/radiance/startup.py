"""Defer the import of torch's compiler, which takes longer than importing nerfstudio, and of others.

Modules that nerfstudio imports load `torch._dynamo` and `torch._inductor`, although the methods here do not need them,
or need them only later:

- `torchvision.models` imports `torchvision.ops`, which asks `torch._dynamo` whether it can compile;
- some metrics of torchmetrics that nothing here uses take functions from these two;
- `nerfstudio.models.splatfacto`, which the viewer imports, prepares a function with `torch.compile`;
- `torch.optim` loads them with the first optimizer, to mark functions as not to be compiled, and with its first step;
- `torch.broadcast_shapes` loads what the compiler needs for sizes that are symbols, and with it sympy.

The torchvision modules are now loaded on first use, and those metrics do without them. The function of splatfacto is
compiled when it is first called. Functions are marked, and symbols expected, only while the compiler is loaded. The
steps of optimizers are not marked at all. torchmetrics also does without pyplot, because nothing here draws a metric.

Two more imports are deferred:

- nerfstudio's event files need TensorBoard, which is loaded with the first of them;
- `nerfstudio.model_components.lib_bilagrid` tells tensorly to use torch. tensorly is told once something needs it.
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

__all__ = ["compile_later", "defer_the_compiler"]


def defer_the_compiler() -> None:
    """Change how the modules above are imported from now on. Modules that are already imported do not change."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.startswith("tensorly."):  # its modules import each other in the order in which the package does
            _load("tensorly")
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
        module.__dict__["__load__"] = _Once(self._loader.exec_module)
        module.__class__ = _Module


class _Once:
    """Execute a module once, whichever thread needs it first."""

    def __init__(self, execute: Callable[[ModuleType], None]) -> None:
        self._execute, self._lock, self._begun = execute, threading.RLock(), False

    def __call__(self, module: ModuleType) -> None:
        with self._lock:  # other threads wait here; the module itself, while it is executed, does not
            if not self._begun:
                self._begun = True
                self._execute(module)


def _load(name: str) -> None:
    """Execute a module that was imported and deferred."""
    module = vars(sys.modules[name])
    if "__load__" in module:
        module["__load__"](sys.modules[name])


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__["__load__"](self)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None


class _CallingLater(_LoadingLater):
    """Does the same as `_LoadingLater`, and has a function that loads the module when it is called."""

    def __init__(self, loader: Loader, name: str) -> None:
        super().__init__(loader)
        self._name = name

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)

        def call(*arguments: Any, **named: Any) -> Any:
            module.__dict__["__load__"](module)  # which replaces this function
            return module.__dict__[self._name](*arguments, **named)

        module.__dict__[self._name] = call


class _ToldLater(_LoadingLater):
    """Does the same as `_LoadingLater`. Calls a function of the module once it is loaded, as it was called before."""

    def __init__(self, loader: Loader, name: str) -> None:
        super().__init__(loader)
        self._name, self._calls = name, list[tuple[Any, ...]]()

    def exec_module(self, module: ModuleType) -> None:
        load = self._loader.exec_module

        def load_and_call(module: ModuleType) -> None:
            load(module)
            for arguments in self._calls:
                module.__dict__[self._name](*arguments)

        super().exec_module(module)
        module.__dict__["__load__"] = _Once(load_and_call)
        module.__dict__[self._name] = lambda *arguments: self._calls.append(arguments)


class _Without(_Wrapper):
    """Executes a module of torchmetrics as if a library were not installed."""

    def __init__(self, loader: Loader, library: str) -> None:
        super().__init__(loader)
        self._flag = f"_{library.upper()}_AVAILABLE"

    def exec_module(self, module: ModuleType) -> None:
        known = vars(importlib.import_module("torchmetrics.utilities.imports"))
        available, known[self._flag] = known[self._flag], False
        try:
            self._loader.exec_module(module)
        finally:
            known[self._flag] = available


class _CompilingLater(_Wrapper):
    """Executes a module in which `torch.compile` compiles on first call."""

    def exec_module(self, module: ModuleType) -> None:
        import torch

        compile_now = torch.compile
        torch.compile = functools.partial(compile_later, compile_now)
        try:
            self._loader.exec_module(module)
        finally:
            torch.compile = compile_now


def compile_later(compile_now: Callable[..., Any], function: Any = None, **options: Any) -> Any:
    """Compile a function when it is first called."""
    if function is None:  # as a decorator
        return functools.partial(compile_later, compile_now, **options)
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if not compiled:
            compiled.append(compile_now(function, **options))
        return compiled[0](*arguments, **named)

    return call


class _Changing(_Wrapper):
    """Executes a module, and changes one of its functions before other modules import it."""

    def __init__(self, loader: Loader, name: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        super().__init__(loader)
        self._name, self._change = name, change

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        vars(module)[self._name] = self._change(vars(module)[self._name])


def _mark_later(mark: Callable[..., Any], function: Any = None, recursive: bool = True) -> Any:
    """Return a function that calls `function`, marked as not to be compiled if the compiler is loaded."""
    if function is None:  # as a decorator
        return functools.partial(_mark_later, mark, recursive=recursive)
    marked = mark(function, recursive)

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return (marked if "torch._dynamo" in sys.modules else function)(*arguments, **named)

    return call


def _step_plainly(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return an optimizer's step that records gradients only if the optimizer is differentiable."""
    import torch

    @functools.wraps(step)
    def call(optimizer: Any, *arguments: Any, **named: Any) -> Any:
        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            return step(optimizer, *arguments, **named)

    return call


def _broadcast_plainly(broadcast: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `torch.broadcast_shapes` that expects symbols among the numbers only if the compiler is loaded."""
    import numpy as np
    import torch

    def call(*shapes: Any) -> torch.Size:
        if "torch._dynamo" in sys.modules:
            return torch.Size(broadcast(*shapes))
        return torch.Size(np.broadcast_shapes(*shapes))

    return call


_METRICS = ("detection.ciou", "detection.diou", "detection.giou", "detection.iou", "image.arniqa", "image.dists")
_LOADERS: dict[str, Callable[[Loader], _Wrapper]] = {
    "nerfstudio.models.splatfacto": _CompilingLater,
    "torch._compile": functools.partial(
        _Changing, name="_disable_dynamo", change=lambda mark: functools.partial(_mark_later, mark)
    ),
    "torch.optim.optimizer": functools.partial(
        _Changing, name="_use_grad_for_differentiable", change=lambda _: _step_plainly
    ),
    "torch.functional": functools.partial(_Changing, name="broadcast_shapes", change=_broadcast_plainly),
    **dict.fromkeys(("torchvision.models", "torchvision.ops"), _LoadingLater),
    **dict.fromkeys(
        (f"torchmetrics.functional.{name}" for name in _METRICS), functools.partial(_Without, library="torchvision")
    ),
    "torchmetrics.utilities.plot": functools.partial(_Without, library="matplotlib"),
    "torch.utils.tensorboard": functools.partial(_CallingLater, name="SummaryWriter"),
    "tensorly": functools.partial(_ToldLater, name="set_backend"),
}
