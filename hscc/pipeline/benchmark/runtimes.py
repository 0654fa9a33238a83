"""A network made ready to be timed: its ONNX file in ONNX Runtime, or its module in eager torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hscc.timing.alternation import Call
from hscc.timing.sessions import bind_session, open_session

ONNXRUNTIME, TORCH = "onnxruntime", "torch"

Bind = Callable[[int], Call]  # of a batch size, the call that is timed


@dataclass(frozen=True)
class Subject:
    """A network to be timed.

    Attributes
    ----------
    name : str
        Name in its rows.
    model : Path
        Its ONNX file.
    module : Path or None
        Folder of its ``model.safetensors``; None where it has no torch form.
    side : int
        Pixels a side of its input, where the file leaves them open.
    """

    name: str
    model: Path
    module: Path | None
    side: int

    def runs_in(self, runtime: str) -> bool:
        """Whether the network has a form for a runtime."""
        return runtime == ONNXRUNTIME or self.module is not None


def open_network(subject: Subject, runtime: str, threads: int) -> Bind:
    """Load a network.

    Parameters
    ----------
    subject : Subject
        The network.
    runtime : str
        ``onnxruntime`` or ``torch``.
    threads : int
        Threads inside an operator; torch has one number of threads for the whole process.

    Returns
    -------
    callable
        Takes a batch size, gives a call that runs the network on one drawn batch of that size.

    Raises
    ------
    ArtifactError
        If a file is missing or cannot be read.
    """
    if runtime == ONNXRUNTIME:
        session = open_session(subject.model, threads)
        return partial(bind_session, session, subject.model, side=subject.side)
    assert subject.module is not None
    return _open_module(subject.module, subject.side, threads)


def _open_module(folder: Path, side: int, threads: int) -> Bind:
    import torch

    from hscc.networks.storage import load_dense
    from hscc.storage import PLAN, load

    torch.set_num_threads(threads)
    module = load(folder) if (folder / PLAN).is_file() else load_dense(folder / "model.safetensors")[0]
    # Channels last: 1.1 to 2.3 times faster than torch's default order for each network it was measured on, at
    # batches of 1 and 16.
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def bind(batch: int) -> Call:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch, 3, side, side, generator=generator).to(memory_format=torch.channels_last)

        def run() -> object:
            with torch.inference_mode():
                return module(images)

        return run

    return bind
