"""Importing diffusers and transformers without the parts that nobody asked for: half of what a cold edit costs.

For commands that end with their picture: these are fresh processes. Servers, batches and whoever imports the library
get the others' libraries as they are. Measured with `ledits edit` on one core: 5.5 s of its time, 7.5 s without the
stubs, 8.2 s with plain imports. Where anything here is in the way, `without` runs the command again, plainly.
Two things cost most. Packages that import all of their modules as soon as one is needed, such as
`transformers`, with a table of every model there is: these wait, and run when somebody asks for a name that they alone
can give. And packages that are imported for a decorator or for an isinstance, such as PyTorch's compiler and peft:
stubs stand in for these, and make way for the package itself when somebody asks for anything else.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from types import ModuleType
from typing import Any, Unpack

_PLAIN = "LEDITS_PLAIN_IMPORTS"  # set: nothing here is done

_WAITING = (
    "diffusers.hooks", "diffusers.models.autoencoders", "diffusers.models.transformers", "diffusers.models.unets",
    "transformers", "transformers.models", "transformers.models.auto",
)  # fmt: skip
# The modules that have the names which are asked of a package as a whole.
_HOMES = {
    "transformers": {
        "PreTrainedModel": "modeling_utils",
        "CLIPTextModel": "models.clip.modeling_clip",
        "CLIPTextModelWithProjection": "models.clip.modeling_clip",
        "CLIPTokenizer": "models.clip.tokenization_clip",
    },
    "transformers.models.auto": {"AutoModel": "modeling_auto"},
}


def install() -> None:
    """Make these packages wait, and put the stubs in place of those that are not there yet."""
    if not installed() and not os.environ.get(_PLAIN):
        sys.meta_path.insert(0, _Finder())


def installed() -> bool:
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def blamed(error: BaseException | None) -> bool:
    """Whether what waits or a stub may be at fault: a sentence for the user has no other kind of error behind it."""
    if not any(isinstance(module, _Stub | _Waiting) for module in list(sys.modules.values())):
        return False  # nothing was left out yet
    while error is not None:
        if not isinstance(error, ValueError | OSError):
            return True
        error = error.__cause__ or error.__context__
    return False


def without(heard: bytes | None) -> int:
    """The exit code of this very command in a process with plain imports; `heard`: what standard input has said."""
    command = [sys.executable, *sys.orig_argv[1:]]
    return subprocess.run(command, env={**os.environ, _PLAIN: "1"}, input=heard, check=False).returncode


class _Name:
    """A class or a function of a package that is imported as soon as it is used; nothing is an instance before."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        module = importlib.import_module(self._module)
        if isinstance(module, _Stub):
            module.load()
            module = importlib.import_module(self._module)
        return getattr(module, self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._real()(*arguments, **named)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __instancecheck__(self, instance: object) -> bool:
        there = sys.modules.get(self._module)
        return there is not None and not isinstance(there, _Stub) and isinstance(instance, self._real())


def _names(module: str, *names: str) -> dict[str, Any]:
    return {name: _Name(module, name) for name in names}


def _unchanged(fn: Any = None, *_: Any, **named: Any) -> Any:
    """A decorator of the compiler where nothing is compiled, with or without arguments."""
    return fn if fn is not None else _unchanged


_TENSORS = "torch.distributed.tensor"
_DOCS = "transformers.utils.auto_docstring"
_STUBS: Mapping[str, Mapping[str, Any] | None] = {
    "torch._dynamo": dict.fromkeys(("allow_in_graph", "assume_constant_result", "disable"), _unchanged),
    "peft": {},
    "peft.tuners": {},
    "peft.tuners.tuners_utils": _names("peft.tuners.tuners_utils", "BaseTunerLayer"),
    _TENSORS: _names(_TENSORS, "DTensor", "Partial", "Replicate", "Shard", "distribute_tensor"),
    f"{_TENSORS}._utils": _names(f"{_TENSORS}._utils", "compute_local_shape_and_global_offset"),
    f"{_TENSORS}.placement_types": _names(f"{_TENSORS}.placement_types", "Shard", "_StridedShard"),
    "torch.distributed._composable.fsdp": _names("torch.distributed._composable.fsdp", "fully_shard"),
    "torch.distributed.fsdp": _names("torch.distributed.fsdp", "CPUOffloadPolicy", "MixedPrecisionPolicy"),
    "torch.distributed.checkpoint": {},
    "torch.distributed.checkpoint.hf_storage": None,
    "transformers.distributed.expert_parallel": None,
    "transformers.distributed.sharding_utils": None,
    "transformers.distributed.tensor_parallel": None,
    "transformers.processing_utils": {"Unpack": Unpack},
    # It writes docstrings, and looks up for them which processor each model has.
    _DOCS: {
        "auto_docstring": _unchanged, "auto_class_docstring": _unchanged,
        **_names(
            _DOCS, "ClassAttrs", "ClassDocstring", "ImageProcessorArgs", "ModelArgs", "ModelOutputArgs",
            "get_args_doc_from_source", "parse_docstring", "set_min_indent",
        ),
    },
}  # fmt: skip
_ROOTS = (
    "torch._dynamo", "peft", _TENSORS, "torch.distributed._composable.fsdp", "torch.distributed.fsdp",
    "torch.distributed.checkpoint", "transformers.distributed.expert_parallel",
    "transformers.distributed.sharding_utils", "transformers.distributed.tensor_parallel",
    "transformers.processing_utils", _DOCS,
)  # fmt: skip
# Needs nothing of the package that it lies in.
_FREE = ("torch._dynamo._trace_wrapped_higher_order_op",)


class _Finder(MetaPathFinder):
    def __init__(self) -> None:
        self.there = set[str]()  # packages that somebody has asked for

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root = next((name for name in _ROOTS if fullname == name or fullname.startswith(f"{name}.")), None)
        if fullname not in _WAITING and (root is None or root in self.there or fullname in _FREE):
            return None
        if root is not None and fullname not in _STUBS:
            self.load(root)
            # Loading it has loaded this module too, as a rule.
            there = sys.modules.get(fullname)
            return None if there is None else ModuleSpec(fullname, _There(there))
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Later(spec.loader) if root is None else _StubLoader(self, root)
        return spec

    def load(self, root: str) -> None:
        """Put the package itself in the place of its stubs."""
        self.there.add(root)
        for name in _STUBS:
            if name == root or name.startswith(f"{root}."):
                sys.modules.pop(name, None)
        importlib.import_module(root)


class _StubLoader(Loader):
    def __init__(self, finder: _Finder, root: str) -> None:
        self.finder, self.root = finder, root

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(_STUBS[module.__name__] or {}, load=lambda: self.finder.load(self.root))


class _Stub(ModuleType):
    """In place of a package: a few names of it. Any other loads it."""

    load: Callable[[], None]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if _STUBS[self.__name__] is None:
            return _Name(self.__name__, name)
        if isinstance(sys.modules.get(self.__name__), _Stub):
            self.load()
        return getattr(importlib.import_module(self.__name__), name)


class _There(Loader):
    """Gives a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Later(Loader):
    """Makes a package and leaves it for later to run it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:  # what else a loader can do, such as `get_source`
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if isinstance(module, _Waiting):  # somebody loads it again
            self.loader.exec_module(module)
            return
        module.__class__ = _Waiting
        if module.__name__ == "transformers":
            module.__dict__["__version__"] = version("transformers")
            module.__dict__["AutoImageProcessor"] = _Name("transformers.models.auto", "AutoImageProcessor")


class _Waiting(ModuleType):
    """A package whose own code has not run. Its modules can be imported; any other name makes it run."""

    _ran = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if not self._ran:
            if home := _HOMES.get(self.__name__, {}).get(name):
                return getattr(importlib.import_module(f"{self.__name__}.{home}"), name)
            child = f"{self.__name__}.{name}"
            if PathFinder.find_spec(child, self.__path__) is not None:
                return importlib.import_module(child)
            self._ran = True
            assert self.__spec__ is not None
            assert isinstance(self.__spec__.loader, _Later)
            self.__spec__.loader.loader.exec_module(self)
        # A package may have put another module in its own place.
        module = sys.modules[self.__name__]
        if module is self:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(module, name)
