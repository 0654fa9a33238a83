"""The engine's C++ library, by its public C header: where it is, and the types of its functions."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from hscc.errors import EngineError

# Names another library than the one beside this package.
VARIABLE = "HSCC_ENGINE_LIBRARY"
NATIVE = Path(__file__).parent / "native"

_Pointer, _Text, _Size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
_Arrays = ctypes.POINTER(ctypes.c_void_p)
_Shape = ctypes.POINTER(ctypes.c_int64)
# Result and arguments, as in native/include/hscc_engine.h.
_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "hscc_version": (_Text, []),
    "hscc_isa": (_Text, []),
    "hscc_open": (_Pointer, [_Text, ctypes.c_int, _Text, _Size]),
    "hscc_open_memory": (_Pointer, [_Pointer, _Size, ctypes.c_int, _Text, _Size]),
    "hscc_close": (None, [_Pointer]),
    "hscc_input_count": (ctypes.c_int, [_Pointer]),
    "hscc_output_count": (ctypes.c_int, [_Pointer]),
    "hscc_input_shape": (ctypes.c_int, [_Pointer, ctypes.c_int, _Shape]),
    "hscc_output_shape": (ctypes.c_int, [_Pointer, ctypes.c_int, _Shape]),
    "hscc_card": (_Text, [_Pointer]),
    "hscc_run": (ctypes.c_int, [_Pointer, ctypes.c_int64, _Arrays, _Arrays]),
    "hscc_error": (_Text, [_Pointer]),
    "hscc_memory": (_Size, [_Pointer, ctypes.c_int64]),
    "hscc_limit_memory": (None, [_Pointer, _Size]),
    "hscc_profile": (None, [_Pointer, ctypes.c_int]),
    "hscc_profile_text": (_Text, [_Pointer]),
}


@cache
def load_library() -> ctypes.CDLL:
    """Load the library once.

    Returns
    -------
    ctypes.CDLL
        With the types of its functions set. A call releases Python's global lock.

    Raises
    ------
    EngineError
        If it was not built, or the file is not this library.
    """
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError(f"{path} is not the engine's library ({error}); build it with: {build_command()}") from error
    return library


def available() -> bool:
    """Whether the library is there and can be loaded."""
    try:
        load_library()
    except EngineError:
        return False
    return True


def isa() -> str:
    """Instruction set that the engine uses on this processor: avx512vnni, avx512, avx2 or portable.

    Raises
    ------
    EngineError
        If the library is missing, or the environment variable HSCC_ENGINE_ISA names a set this processor lacks.
    """
    library = load_library()
    name: bytes = library.hscc_isa()
    if not name:
        raise EngineError(library.hscc_error(None).decode())
    return name.decode()


def build_command() -> str:
    """Command that builds the library beside this package."""
    sources, target = NATIVE / "src", NATIVE.parent / "_native.so"
    return f"c++ -std=c++17 -O3 -shared -fPIC -pthread -I{NATIVE / 'include'} {sources}/*.cpp -o {target}"


def library_path() -> Path:
    """Where the library is.

    Raises
    ------
    EngineError
        If it was not built.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise EngineError(f"{VARIABLE} names {named}, which is not there; correct or unset it.")
        return Path(named)
    for path in sorted(NATIVE.parent.glob("_native*.so")):
        return path
    raise EngineError(
        "the engine's C++ library is missing, since no C++ compiler was found when hscc was installed; "
        f"install one and build it with: {build_command()}"
    )
