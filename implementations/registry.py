"""The built-in targets by name: what each needs, and how it is loaded or why it cannot be.

An adapter is a module with a function `gradients(problem)` and a table `SUPPORTS`. Adding one is a new file
beside this one and a line in `BUILT_IN`.
"""

import importlib
import types
from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltIn:
    """A built-in target: its name, the module that adapts it, what it is, and what it needs beyond NumPy.

    compiles  for sizes that it has not met, which takes seconds: it is asked where it is named, not where all are
    """

    name: str
    module: str
    summary: str
    requires: str | None = None
    compiles: bool = False


BUILT_IN: dict[str, BuiltIn] = {
    target.name: target
    for target in (
        BuiltIn("numpy", "implementations.numpy_bptt", "every cell in plain NumPy, one readable step at a time"),
        BuiltIn("c", "implementations.c_kernel", "kernels in portable C", "C compiler"),
        BuiltIn("torch", "implementations.torch_autograd", "PyTorch autograd over an unrolled loop", "torch"),
        BuiltIn("torch-nn", "implementations.torch_nn", "torch.nn.RNN, LSTM and GRU as they are shipped", "torch"),
        BuiltIn(
            "torch-compile",
            "implementations.torch_compiled",
            "`torch`, its steps compiled by torch.compile",
            "torch",
            compiles=True,
        ),
        BuiltIn(
            "jax", "implementations.jax_scan", "JAX: lax.scan compiled by XLA, and its derivative", "jax", compiles=True
        ),
    )
}

# What to do about a requirement that is missing.
_HINTS = {
    "torch": "torch is not installed; pip install 'bpttcheck[torch]'",
    "jax": "jax is not installed; pip install 'bpttcheck[jax]'",
    "C compiler": "the C kernel was not built; it needs a C compiler when bpttcheck is installed",
}


class Unavailable(Exception):
    """A built-in target that cannot be loaded here; `reason` names the fix."""

    def __init__(self, name: str, reason: str) -> None:
        """Keep both parts, for a report; the message joins them."""
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        """Return `implementation 'torch' is unavailable: torch is not installed; ...`."""
        return f"implementation {self.name!r} is unavailable: {self.reason}"


def load(name: str) -> types.ModuleType:
    """Import the adapter of a built-in target.

    Raises: LookupError for a name that is not built in; Unavailable where the adapter cannot be imported.
    """
    target = BUILT_IN.get(name)
    if target is None:
        message = f"implementation {name!r} is not known; built in: {', '.join(sorted(BUILT_IN))}"
        raise LookupError(message)
    try:
        return importlib.import_module(target.module)
    except ImportError as error:
        raise Unavailable(name, _reason(target, error)) from error


def availability() -> dict[str, str | None]:
    """Try to load every built-in target: None under the name of one that loads, else the reason."""
    found: dict[str, str | None] = {}
    for name in BUILT_IN:
        try:
            load(name)
        except Unavailable as error:
            found[name] = error.reason
        else:
            found[name] = None
    return found


def prompt() -> list[str]:
    """The names of the built-in targets that can be loaded and compile nothing: those to ask where none is named."""
    return [name for name, reason in availability().items() if reason is None and not BUILT_IN[name].compiles]


def _reason(target: BuiltIn, error: ImportError) -> str:
    """Say what is missing, or, where the requirement is there and its import broke, repeat what the import said."""
    said = f"importing {target.module} failed: {error}"
    if target.requires == "C compiler":
        return f"{_HINTS[target.requires]} ({said})"
    if target.requires is not None and isinstance(error, ModuleNotFoundError) and error.name == target.requires:
        return _HINTS[target.requires]
    return said
