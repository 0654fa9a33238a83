"""A network made ready to be timed: its file in a runtime, or its module in eager torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hscc.timing.alternation import Call
from hscc.timing.runtimes import ENGINE, RUNTIMES

if TYPE_CHECKING:
    from torch import nn

TORCH = "torch"

Bind = Callable[[int], Call]  # of a batch size, the call that is timed


@dataclass(frozen=True)
class Subject:
    """A network to be timed.

    Attributes
    ----------
    name : str
        Name in its rows.
    model : Path or None
        Its ONNX file.
    module : Path or None
        Folder of its ``model.safetensors``; None where it has no torch form.
    input_shape : tuple of int
        Channels and sides of its input; the last side stands for every one that a file leaves open.
    engine : Path or None
        Its file for the engine.
    """

    name: str
    model: Path | None
    module: Path | None
    input_shape: tuple[int, ...]
    engine: Path | None = None

    def form(self, runtime: str) -> Path | None:
        """File or folder that a runtime reads; None where the network has none for it."""
        return {TORCH: self.module, ENGINE: self.engine}.get(runtime, self.model)

    @property
    def file(self) -> Path:
        """The ONNX file, by which results know the network; the engine's where there is no other."""
        file = self.model or self.engine
        assert file is not None
        return file


def open_network(subject: Subject, runtime: str, threads: int) -> Bind:
    """Load a network.

    Parameters
    ----------
    subject : Subject
        The network; it has a form for the runtime.
    runtime : str
        ``torch``, or a key of `hscc.timing.runtimes.RUNTIMES`.
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
    form = subject.form(runtime)
    assert form is not None
    if runtime == TORCH:
        return _open_module(form, subject.input_shape, threads)
    return partial(RUNTIMES[runtime].open_file(form, threads).bind, side=subject.input_shape[-1])


def _open_module(folder: Path, shape: tuple[int, ...], threads: int) -> Bind:
    import torch

    torch.set_num_threads(threads)
    # Channels last: 1.1 to 2.3 times faster than torch's default order for each network of pictures it was measured on,
    # at batches of 1 and 16.
    order = torch.channels_last if len(shape) == 3 else torch.contiguous_format
    module = load_module(folder).to(memory_format=order)  # type: ignore[call-overload]

    def bind(batch: int) -> Call:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch, *shape, generator=generator).to(memory_format=order)

        def run() -> object:
            with torch.inference_mode():
                return module(images)

        return run

    return bind


def load_module(folder: Path) -> nn.Module:
    """Load a dense or a compressed network from its folder."""
    from hscc.networks.storage import load_dense
    from hscc.storage import PLAN, load

    return load(folder) if (folder / PLAN).is_file() else load_dense(folder / "model.safetensors")[0]
