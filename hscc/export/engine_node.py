"""The engine inside other runtimes: an ONNX file of one node that holds a network file of the engine.

The node is of type "Network" in the domain "hscc". ``hscc/engine/native/extensions`` has the operation for OpenVINO and
for ONNX Runtime; `build_extension` compiles either. A program that runs ONNX files with one of these runtimes adds
one line, ``core.add_extension(path)`` or ``options.register_custom_ops_library(path)``.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from hscc.engine.engine import Engine, plain_shape
from hscc.engine.library import NATIVE, library_path
from hscc.errors import ExportError

DOMAIN = "hscc"
_OPSET = 17

Runtime = Literal["openvino", "onnxruntime"]


def engine_onnx(path: Path | str) -> onnx.ModelProto:
    """Wrap a network file of the engine in an ONNX graph of one node.

    Parameters
    ----------
    path : Path
        What `hscc.export_engine` wrote.

    Returns
    -------
    onnx.ModelProto
        Inputs ``input`` (``input_0``, ... if there are several) and outputs ``output`` of float32, any batch.
    """
    with Engine(path) as engine:
        # As the C interface has them, with which the operations compare.
        named = {"input": engine.input_shapes, "output": engine.output_shapes}
    shapes = {role: [plain_shape(shape) for shape in found] for role, found in named.items()}
    values = {
        role: [
            helper.make_tensor_value_info(
                role if len(found) == 1 else f"{role}_{index}", TensorProto.FLOAT, ["batch", *shape]
            )
            for index, shape in enumerate(found)
        ]
        for role, found in shapes.items()
    }
    content = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8)
    node = helper.make_node(
        "Network",
        ["network", *(value.name for value in values["input"])],
        [value.name for value in values["output"]],
        domain=DOMAIN,
    )
    graph = helper.make_graph(
        [node], "network", values["input"], values["output"], [onnx.numpy_helper.from_array(content, "network")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(DOMAIN, 1)])


def build_extension(runtime: Runtime, path: Path, headers: Path | None = None) -> None:
    """Compile the operation for a runtime as a shared library that uses the engine of this installation.

    Parameters
    ----------
    runtime : str
        "openvino", whose package brings its headers, or "onnxruntime", whose package does not.
    path : Path
        Library to write.
    headers : Path, optional
        Folder of ``onnxruntime_c_api.h``, from an archive of ONNX Runtime's releases.

    Raises
    ------
    ExportError
        If there is no compiler, no package or no header, or the compiler fails.
    EngineError
        If the engine's library was not built.
    """
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise ExportError("no C++ compiler is here; install g++ or clang++ to build an extension.")
    command = [compiler, "-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]
    command += [f"-I{NATIVE / 'include'}", str(NATIVE / "extensions" / f"{runtime}.cpp")]
    engine = library_path().resolve()
    command += [str(engine), f"-Wl,-rpath,{engine.parent}"]
    command += _openvino_flags() if runtime == "openvino" else _onnxruntime_flags(headers)
    made = subprocess.run([*command, "-o", str(path)], capture_output=True, text=True, check=False)
    if made.returncode:
        raise ExportError(f"the extension for {runtime} could not be compiled: {made.stderr.strip()[-500:]}")


def _openvino_flags() -> list[str]:
    try:
        import openvino
    except ImportError as error:
        raise ExportError("OpenVINO is not installed; install hscc[openvino] first.") from error
    root = Path(openvino.__file__).parent
    (library,) = (root / "libs").glob("libopenvino.so.*")
    return [f"-I{root / 'include'}", f"-L{root / 'libs'}", f"-l:{library.name}"]


def _onnxruntime_flags(headers: Path | None) -> list[str]:
    if headers is None or not (headers / "onnxruntime_c_api.h").is_file():
        raise ExportError(
            "ONNX Runtime's package has no C header; unpack an archive of its releases and give the folder of "
            "onnxruntime_c_api.h as headers."
        )
    return [f"-I{headers}"]
