"""What torch's views, permutations, slices and the like do to a value, without moving a number.

The engine knows one layout. A torch tensor is therefore a value of the program together with where each of its numbers
lies in that value; an operation that needs the tensor itself asks for it in channels and positions, and gets the value
as it is, or a cheap operation before it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hscc.engine.program import Operation, Pad, Pool, Program, Reshape, Resize, Select, Shape, Triple, shape_of


class UnsupportedError(Exception):
    """The engine has no operation for it; the text says what for."""


@dataclass(frozen=True, eq=False)
class View:
    """A torch tensor in terms of a value.

    Attributes
    ----------
    value : int
        Number of the value.
    sizes : tuple of int
        Of the torch tensor, the batch first.
    places : Tensor of int32, shape `sizes`, optional
        For each number of the tensor, where it lies in the value when that is flattened with the batch, channels
        first; None where the two have the same order.
    """

    value: int
    sizes: tuple[int, ...]
    places: torch.Tensor | None = None

    def index(self) -> torch.Tensor:
        """`places`, made where it is None."""
        if self.places is not None:
            return self.places
        return torch.arange(int(np.prod(self.sizes)), dtype=torch.int32).view(self.sizes)

    def moved(self, places: torch.Tensor) -> View:
        """Return the view with other places into the same value."""
        return View(self.value, tuple(places.shape), places)


class Values:
    """Values and operations of a program that is being made; views become values here.

    Parameters
    ----------
    batch : int
        Of the traced network.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.program = Program()
        self._made: dict[tuple[int, Shape, Hashable], int] = {}

    def add(self, operation: Operation) -> None:
        """Append an operation."""
        self.program.operations.append(operation)

    def new(self, sizes: Sequence[int]) -> View:
        """Add a value for a torch tensor of some sizes, the batch first."""
        if len(sizes) > 5 or len(sizes) < 2 or sizes[0] != self.batch:
            raise UnsupportedError(f"a tensor of shape {tuple(sizes)} has no batch first or too many dimensions")
        return View(self.program.value(shape_of(sizes[1:])), tuple(sizes))

    def shape(self, view: View) -> Shape:
        """Shape of the value behind a view."""
        return self.program.values[view.value]

    def straight(self, view: View, channel: int = 1) -> View:
        """Turn a view into one of a value with one dimension as its channels and the others, in order, as positions.

        Parameters
        ----------
        view : View
            Of two to five dimensions.
        channel : int
            Which dimension.

        Raises
        ------
        UnsupportedError
            If no operation brings the numbers into that order.
        """
        sizes = view.sizes
        channel %= len(sizes)
        if len(sizes) > 5 or len(sizes) < 2 or sizes[0] != self.batch or channel == 0:
            raise UnsupportedError("dimensions that are joined with the batch")
        target = (sizes[0], sizes[channel], *(size for i, size in enumerate(sizes) if i not in (0, channel)))
        shape, base = shape_of(target[1:]), self.shape(view)
        in_order = view.places is None and channel == 1
        places = None if in_order else view.index().movedim(channel, 1).contiguous()
        flat = None if places is None else self._of_one_image(places, base)
        if flat is None or torch.equal(flat, torch.arange(base.size, dtype=torch.int32)):
            if shape == base:
                return View(view.value, target)
            return View(self._reshaped(view.value, shape), target)
        try:
            channels, positions = _separate(flat.view(shape.channels, -1), base)
        except UnsupportedError:
            # Perhaps whole channels, but seen in another shape.
            if len(flat) % base.positions:
                raise
            channels, positions = _separate(flat.view(-1, base.positions), base)
            if channels is None or not torch.equal(positions, torch.arange(base.positions)):
                raise
            return View(self._reshaped(self._selected(view.value, channels), shape), target)
        value = view.value if channels is None else self._selected(view.value, channels)
        return View(self._placed(value, positions, shape.grid), target)

    def of_one_image(self, view: View) -> torch.Tensor:
        """Places of one image's numbers in the value of one image, int32.

        Raises
        ------
        UnsupportedError
            If the view mixes the images of a batch.
        """
        return self._of_one_image(view.index(), self.shape(view))

    def _of_one_image(self, places: torch.Tensor, base: Shape) -> torch.Tensor:
        each = places.reshape(self.batch, -1)
        first = each[0]
        offsets = torch.arange(self.batch, dtype=torch.int32)[:, None] * base.size
        if int(first.min()) < 0 or int(first.max()) >= base.size or not torch.equal(each, first + offsets):
            raise UnsupportedError("a tensor that mixes the images of a batch")
        return first

    def _selected(self, value: int, channels: torch.Tensor) -> int:
        chosen = channels.numpy().astype(np.int32)
        shape = Shape(len(chosen), *self.program.values[value].grid)
        return self._once(value, shape, chosen.tobytes(), lambda output: Select((value,), output, chosen))

    def _reshaped(self, value: int, shape: Shape) -> int:
        return self._once(value, shape, "reshape", lambda output: Reshape((value,), output))

    def _placed(self, value: int, positions: torch.Tensor, grid: Triple) -> int:
        """Bring positions of a value into a grid: a crop, every n-th, or copies of a single one."""
        base = self.program.values[value]
        shape = Shape(base.channels, *grid)
        if len(positions) == base.positions and torch.equal(positions, torch.arange(base.positions)):
            return value if grid == base.grid else self._reshaped(value, shape)
        if base.positions == 1:
            return self._once(value, shape, "copies", lambda output: Resize((value,), output, "nearest"))
        start, steps = _box(positions.view(grid), base.grid)
        ends = [s + (n - 1) * step + 1 for s, n, step in zip(start, grid, steps, strict=True)]
        before, after = (-start[0], -start[1], -start[2]), _triple(e - n for e, n in zip(ends, base.grid, strict=True))
        if any(before) or any(after):
            cut = Shape(base.channels, *(n + b + a for n, b, a in zip(base.grid, before, after, strict=True)))
            whole, value = value, -1
            value = self._once(whole, cut, ("cut", before), lambda output: Pad((whole,), output, before, after))
        if steps == (1, 1, 1):
            return value
        strided = value
        return self._once(
            value, shape, "strided", lambda output: Pool((strided,), output, "max", (1, 1, 1), steps, (0, 0, 0))
        )

    def _once(self, value: int, shape: Shape, key: Hashable, make: Callable[[int], Operation]) -> int:
        """Append the operation that makes a value of another, unless it is there already."""
        if (value, shape, key) not in self._made:
            self._made[value, shape, key] = self.program.value(shape)
            self.add(make(self._made[value, shape, key]))
        return self._made[value, shape, key]


def _separate(flat: torch.Tensor, base: Shape) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Split places (C, P) into the channel of each row and the position of each column.

    Returns
    -------
    channels : Tensor, shape (C,), optional
        None where they are all channels in their order.
    positions : Tensor of int64, shape (P,)
    """
    flat = flat.to(torch.int64)
    channels, positions = flat[:, 0] // base.positions, flat[0] % base.positions
    if not torch.equal(channels[:, None] * base.positions + positions, flat):
        raise UnsupportedError("values that change places")
    if torch.equal(channels, torch.arange(base.channels)):
        return None, positions
    return channels, positions


def _box(places: torch.Tensor, grid: Triple) -> tuple[Triple, Triple]:
    """First position and step along each axis of places that are a box in a grid."""
    numbers = torch.arange(grid[0] * grid[1] * grid[2]).view(grid)
    start = _triple(int(place) for place in np.unravel_index(int(places[0, 0, 0]), grid))
    steps = []
    for axis, behind in enumerate((grid[1] * grid[2], grid[2], 1)):
        along = places.movedim(axis, 0)[:, 0, 0]
        steps.append(max(1, int(along[1] - along[0]) // behind) if len(along) > 1 else 1)
    box = numbers[tuple(slice(first, None, step) for first, step in zip(start, steps, strict=True))]
    box = box[: places.shape[0], : places.shape[1], : places.shape[2]]
    if not torch.equal(box, places):
        raise UnsupportedError("values that change places")
    return start, _triple(steps)


def _triple(numbers: Iterable[int]) -> Triple:
    depth, rows, columns = numbers
    return (depth, rows, columns)
