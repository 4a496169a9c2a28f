"""The compiled engine's loop without Numba: its machine code, kept by the first process that needs it, loaded by LLVM alone in later ones.

To import Numba and what it needs for a function that it has kept takes longer than to simulate a million tokens.

The code is the module that Numba made of `advance` (engine.py), less what is there for calls from Python. It is called as Numba calls it:
where to put the result, where to put an exception, then each argument, an array as what Numba's data model makes of it (`_words`).
"""

import ctypes
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from simulators.native.fast.records import EngineArrays

Advance = Callable[[EngineArrays, float], int]

HERE = Path(__file__).parent
# all that may be compiled into the code, and what calls it
SOURCES = [*sorted(HERE.glob("*.py")), *(HERE.parent / "latency" / f"{name}.py" for name in ("step_law", "windows"))]
NAME = "advance"  # of the function in the code


@cache
def advance() -> Advance:
    """The loop of engine.py for this process. It is compiled where no process has kept its code for this machine and these sources."""
    path = next((path for path in _places() if path.is_file()), None)
    if path is not None:
        return function_of(path.read_bytes())
    # here, since who finds the code needs no Numba, which takes long to import
    from simulators.native.fast import engine

    return _keeping(engine.advance)


def _keeping(compiled: Any) -> Advance:
    """What Numba compiles when it is first called; then its code is kept."""

    def call(e: EngineArrays, until: float) -> int:
        new = not compiled.overloads
        stopped: int = compiled(e, until)
        if new:
            _keep(code_of(compiled))
        return stopped

    return call


def code_of(compiled: Any) -> bytes:
    """The machine code, an object file, of what Numba has compiled for one signature, with all that it calls."""
    (made,) = compiled.overloads.values()
    machine = _machine()
    module = llvm.parse_bitcode(made.library._get_module_for_linking().as_bitcode())
    for one in (*module.functions, *module.global_variables):
        if not one.is_declaration:
            one.linkage = "external" if one.name == made.fndesc.llvm_func_name else "internal"
    module.get_function(made.fndesc.llvm_func_name).name = NAME
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()  # what is there for calls from Python
    passes.run(module, builder)
    for function in module.functions:  # a call copies all that EngineArrays names, 2 KB, which takes longer than most functions do
        if not function.is_declaration and function.name != NAME:
            function.add_function_attribute("alwaysinline")
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def function_of(code: bytes) -> Advance:
    """The function that `code_of` made code of."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    native = ctypes.CFUNCTYPE(ctypes.c_int32)(engine.get_function_address(NAME))

    def call(e: EngineArrays, until: float) -> int:
        stopped, error = ctypes.c_int64(), ctypes.c_void_p()
        failed = native(ctypes.byref(stopped), ctypes.byref(error), *map(ctypes.c_int64, _words(e)), ctypes.c_double(until))
        if failed:  # an exception, which none of these functions raises
            raise RuntimeError(f"the compiled engine failed with Numba's status {failed}")
        return stopped.value

    call.engine = engine  # type: ignore[attr-defined]  # the code is there as long as it is
    return call


def _words(value: Any) -> Iterator[int]:
    """An argument as Numba passes it: the parts of a tuple; of an array its owner (unused: none), size, data, shape and strides."""
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous and value.flags.writeable
        yield from (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
    else:
        for part in value:
            yield from _words(part)


def _keep(code: bytes) -> None:
    """Write it whole or not at all, where this user may write."""
    for path in _places():
        scratch = path.with_name(f".{uuid.uuid4().hex[:8]}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(code)
            scratch.replace(path)
        except OSError:
            continue
        return


def _places() -> list[Path]:
    """Where the code of these sources for this machine may be: beside them, as Python's and Numba's, or in the user's cache folder."""
    spec = find_spec("numba")
    version = Path(spec.origin).with_name("_version.py").read_bytes() if spec is not None and spec.origin is not None else b""
    machine = f"{llvm.llvm_version_info} {llvm.get_process_triple()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    digest = hashlib.sha256(b"".join([machine.encode(), version, *(path.read_bytes() for path in SOURCES)])).hexdigest()[:16]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plumbline"
    return [folder / f"{NAME}-{digest}.o" for folder in (HERE / "__pycache__", user)]


def _machine() -> Any:
    """This machine, as Numba has LLVM make code for it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target, features = llvm.Target.from_triple(llvm.get_process_triple()), llvm.get_host_cpu_features().flatten()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, reloc="default", codemodel="jitdefault", jit=True
    )
