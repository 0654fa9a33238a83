"""The runtimes that a network is timed and served in: the package's own engine, ONNX Runtime, OpenVINO.

A runtime opens a network, a module or a file of its format, and gives a `Session`. What a runtime needs is imported
when it is used, and `Runtime.missing` says what is not there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from hscc.errors import ArtifactError, EngineError, ParamsError, first_line, requires_extra
from hscc.timing.alternation import Call

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession
    from torch import nn

    from hscc.engine.engine import Engine

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

ENGINE, ONNXRUNTIME, OPENVINO = "engine", "onnxruntime", "openvino"


class Session(Protocol):
    """A network that is open in a runtime."""

    def __call__(self, images: Array) -> Array:
        """Run the network.

        Parameters
        ----------
        images : ndarray, shape (N, ...)
            Its only input.

        Returns
        -------
        ndarray, shape (N, ...)
            Its first output.
        """
        ...

    def bind(self, batch: int, side: int = 1) -> Call:
        """Make the call that is timed: one run on one drawn batch.

        Parameters
        ----------
        batch : int
            Images.
        side : int
            Size of every dimension besides the batch that the network leaves open.
        """
        ...


class Runtime(ABC):
    """Opens networks.

    Attributes
    ----------
    name : str
        Key in `RUNTIMES`.
    suffix : str
        Of its files.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def missing(self) -> str:
        """One sentence that says what is missing on this machine and how to get it; empty if nothing is."""

    @abstractmethod
    def version(self) -> str:
        """Name and version, for the record of a machine."""

    @abstractmethod
    def open_file(self, path: Path, threads: int) -> Session:
        """Open a file of the runtime's format.

        Raises
        ------
        ArtifactError
            If the runtime cannot read it.
        """

    @abstractmethod
    def open_module(self, network: nn.Module, input_shape: Shape, threads: int) -> Session:
        """Open a network, exported as it would be deployed.

        Parameters
        ----------
        network : nn.Module
            The network.
        input_shape : tuple of int
            Without the batch.
        threads : int
            Threads inside an operator.
        """

    @property
    def available(self) -> bool:
        """Whether it can run here."""
        return not self.missing()


class EngineRuntime(Runtime):
    """The package's own C++ library; see `hscc.engine`."""

    name, suffix = ENGINE, ".hscc"

    def missing(self) -> str:
        """See `Runtime`."""
        from hscc.engine.library import load_library

        try:
            load_library()
        except EngineError as error:
            return str(error)
        return ""

    def version(self) -> str:
        """See `Runtime`."""
        from hscc.engine.library import isa, load_library

        number: bytes = load_library().hscc_version()
        return f"hscc engine {number.decode()} {isa()}"

    def open_file(self, path: Path, threads: int) -> Session:
        """See `Runtime`."""
        from hscc.engine.engine import Engine

        return EngineSession(Engine(path, threads))

    def open_module(self, network: nn.Module, input_shape: Shape, threads: int) -> Session:
        """See `Runtime`; it is not compared with torch as `hscc.export_engine` does."""
        from hscc.engine.engine import Engine
        from hscc.engine.program_file import write_program
        from hscc.engine.trace import trace

        return EngineSession(Engine(write_program(trace(network, [input_shape])), threads))


class OnnxReader(Runtime):
    """Base of the runtimes that read ONNX."""

    suffix = ".onnx"

    @abstractmethod
    def open_graph(self, graph: onnx.ModelProto, threads: int) -> Session:
        """Open a graph that was just made."""

    def open_module(self, network: nn.Module, input_shape: Shape, threads: int) -> Session:
        """See `Runtime`."""
        with requires_extra("onnx", self.name):
            from hscc.export.to_onnx import runtime_onnx
        return self.open_graph(runtime_onnx(network, input_shape), threads)


class OnnxRuntime(OnnxReader):
    """ONNX Runtime on the CPU; see `hscc.timing.sessions`."""

    name = ONNXRUNTIME

    def missing(self) -> str:
        """See `Runtime`."""
        return _missing("onnxruntime", "onnx")

    def version(self) -> str:
        """See `Runtime`."""
        return f"onnxruntime {version('onnxruntime')}"

    def open_file(self, path: Path, threads: int) -> Session:
        """See `Runtime`."""
        with requires_extra("onnx", self.name):
            from hscc.timing.sessions import open_session
        return OnnxSession(open_session(path, threads), path)

    def open_graph(self, graph: onnx.ModelProto, threads: int) -> Session:
        """See `OnnxReader`."""
        from hscc.timing.sessions import open_graph

        return OnnxSession(open_graph(graph, threads), Path("graph"))


class OpenVino(OnnxReader):
    """OpenVINO's CPU plugin."""

    name = OPENVINO

    def missing(self) -> str:
        """See `Runtime`."""
        return _missing("openvino", "openvino")

    def version(self) -> str:
        """See `Runtime`."""
        return f"openvino {version('openvino')}"

    def open_file(self, path: Path, threads: int) -> Session:
        """See `Runtime`."""
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; name an ONNX file.")
        return self._open(path.read_bytes(), str(path), threads)

    def open_graph(self, graph: onnx.ModelProto, threads: int) -> Session:
        """See `OnnxReader`."""
        return self._open(graph.SerializeToString(), "graph", threads)

    def _open(self, content: bytes, name: str, threads: int) -> Session:
        with requires_extra("openvino", self.name):
            import openvino
        try:
            return OpenVinoSession(openvino.Core().read_model(content, b""), name, threads)
        except RuntimeError as error:
            raise ArtifactError(f"{name} is not a network that OpenVINO can open ({first_line(error)}).") from error


class EngineSession:
    """A network in the engine.

    Parameters
    ----------
    engine : Engine
        The open file.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, images: Array) -> Array:
        """See `Session`."""
        return _first(self.engine(images))

    def bind(self, batch: int, side: int = 1) -> Call:
        """See `Session`; the engine leaves no size open."""
        generator = np.random.default_rng(0)
        return partial(
            self.engine, *(generator.standard_normal((batch, *s), np.float32) for s in self.engine.input_shapes)
        )  # fmt: skip


class OnnxSession:
    """A network in ONNX Runtime.

    Parameters
    ----------
    session : InferenceSession
        It is open.
    path : Path
        Its file, for messages.
    """

    def __init__(self, session: InferenceSession, path: Path) -> None:
        self.session, self.path = session, path

    def __call__(self, images: Array) -> Array:
        """See `Session`."""
        return np.asarray(self.session.run(None, {self.session.get_inputs()[0].name: images})[0])

    def bind(self, batch: int, side: int = 1) -> Call:
        """See `Session`."""
        from hscc.timing.sessions import bind_session

        return bind_session(self.session, self.path, batch, side)


class OpenVinoSession:
    """A network in OpenVINO, compiled for each shape that it is run on: open sizes would cost it time.

    Parameters
    ----------
    model : openvino.Model
        As it was read.
    name : str
        Its file, for messages.
    threads : int
        Threads inside an operator.
    """

    def __init__(self, model: Any, name: str, threads: int) -> None:
        self._model, self._name, self._threads = model, name, threads
        self._compiled: dict[tuple[Shape, ...], Any] = {}

    def __call__(self, images: Array) -> Array:
        """See `Session`."""
        return np.array(self._request(images.shape).infer({0: images})[0])

    def bind(self, batch: int, side: int = 1) -> Call:
        """See `Session`."""
        generator = np.random.default_rng(0)
        inputs = {}
        for index, entry in enumerate(self._model.inputs):
            sizes = [None if size.is_dynamic else size.get_length() for size in entry.get_partial_shape()]
            if sizes[0] not in (None, batch):
                raise ArtifactError(f"{self._name} takes batches of {sizes[0]} only, not of {batch}.")
            kind = entry.get_element_type().to_dtype()
            drawn = generator.standard_normal([batch, *(size or side for size in sizes[1:])], np.float32)
            inputs[index] = np.abs(drawn * 50).clip(0, 255).astype(kind) if kind == np.uint8 else drawn.astype(kind)
        request = self._request(*(given.shape for given in inputs.values()))
        return partial(request.infer, inputs)

    def _request(self, *shapes: Shape) -> Any:
        if shapes not in self._compiled:
            import openvino

            model = self._model.clone()
            model.reshape(dict(zip(model.inputs, map(list, shapes), strict=True)))
            settings = {
                "INFERENCE_NUM_THREADS": self._threads,
                "NUM_STREAMS": "1",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
            }
            self._compiled[shapes] = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        return self._compiled[shapes]


RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (EngineRuntime(), OnnxRuntime(), OpenVino())}


def find_runtime(name: str) -> Runtime:
    """Look up a runtime that can run here.

    Raises
    ------
    ParamsError
        If there is none of that name, or something that it needs is missing.
    """
    if name not in RUNTIMES:
        raise ParamsError(f"the runtime {name!r} is unknown; choose one of {', '.join(RUNTIMES)}.")
    missing = RUNTIMES[name].missing()
    if missing:
        raise ParamsError(f"the runtime {name} is not available: {missing}")
    return RUNTIMES[name]


def default_runtime() -> str:
    """Name of the engine where its library is there, else of ONNX Runtime."""
    return ENGINE if RUNTIMES[ENGINE].available else ONNXRUNTIME


def usable_runtimes(names: Sequence[str]) -> list[str]:
    """Those of some runtimes that can run here, in their order; names that are no runtime's (``torch``) stay."""
    return [name for name in names if name not in RUNTIMES or RUNTIMES[name].available]


def runtime_of(path: Path) -> str:
    """Name of the runtime that reads a file: the engine's own format, or ONNX."""
    return ENGINE if path.suffix == EngineRuntime.suffix else ONNXRUNTIME


def _missing(package: str, extra: str) -> str:
    try:
        version(package)
    except PackageNotFoundError:
        return f"the package {package} is missing; install it with: pip install 'hscc[{extra}]'."
    return ""


def _first(outputs: Any) -> Array:
    return np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)
