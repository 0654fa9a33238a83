"""A regional low-rank convolution as one torch operator, ``torch.ops.hscc.regional_conv``, with a backward.

The patches of all positions of a region, of all images, are one matrix: each region is two matrix products, however
many tiles it has. It is what fine-tuning runs, and an opaque step under `torch.compile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

Tile: TypeAlias = tuple[int, int, int, int, int]  # region, then first row, end row, first column, end column


def regional_conv(
    input: torch.Tensor,
    cores: Sequence[torch.Tensor],
    decoders: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    tiles: Sequence[Tile],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    projection: torch.Tensor | None = None,
) -> torch.Tensor:
    """Convolve with weights that depend on the region of the output position.

    At a position of region r the output is ``decoders[r] @ (cores[r] * patch) + biases[r]``, where the patch is of the
    projected input if there is a projection.

    Parameters
    ----------
    input : Tensor, shape (N, C, rows, columns)
    cores : sequence of Tensor, each of shape (rank, C or directions, kh, kw)
        One per region. A rank of 0 leaves the bias alone.
    decoders : sequence of Tensor, each of shape (C_out, rank)
    biases : sequence of Tensor, each of shape (C_out,)
    tiles : sequence of (int, int, int, int, int)
        Region, first row, end row, first column and end column of output positions. Together they cover the output
        once; `tiles_of_index` makes them of a map of regions.
    stride, dilation : (int, int)
        Rows and columns.
    padding : (int, int, int, int)
        Zeros at the left, right, top and bottom, as `torch.nn.functional.pad` takes them.
    projection : Tensor, shape (directions, C), optional
        A 1 x 1 convolution before the cores.

    Returns
    -------
    Tensor, shape (N, C_out, rows', columns')
    """
    if projection is not None:
        input = project(input, projection)
    outputs = torch.ops.hscc.regional_conv(
        input, list(cores), list(decoders), list(biases), [number for tile in tiles for number in tile], list(stride),
        list(padding), list(dilation),
    )  # fmt: skip
    return cast(torch.Tensor, outputs[0])


def project(input: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """Multiply the channels at each position by a matrix.

    The same as a 1 x 1 convolution, which takes oneDNN ten times longer where there are few channels.

    Parameters
    ----------
    input : Tensor, shape (N, C, rows, columns)
    projection : Tensor, shape (directions, C)
    """
    return (projection @ input.flatten(2)).view(len(input), -1, *input.shape[2:])


def tiles_of_index(index: npt.NDArray[np.uint8]) -> list[Tile]:
    """Split a map of regions (rows, columns) into tiles: runs of a row, and equal runs of rows one below the other."""
    tiles: list[Tile] = []
    first_rows: dict[tuple[int, int, int], int] = {}  # of the runs that the row above ends with
    for place in range(len(index) + 1):
        runs: dict[tuple[int, int, int], int] = {}
        if place < len(index):
            row = index[place]
            edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
            for start, end in pairwise(edges):
                run = (int(row[start]), start, end)
                runs[run] = first_rows.get(run, place)
        tiles += [(run[0], first, place, *run[1:]) for run, first in first_rows.items() if run not in runs]
        first_rows = runs
    return tiles


@torch.library.custom_op("hscc::regional_conv", mutates_args=())
def _forward(
    input: torch.Tensor, cores: Sequence[torch.Tensor], decoders: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor], tiles: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return the output, and the hidden numbers of all regions one after the other, which the backward needs."""
    by_region, grid = _by_region(tiles, len(cores))
    windows = _windows(_padded(input, padding), cores[0].shape[2:], grid, stride, dilation)
    output = input.new_empty(len(input), *grid, len(biases[0]))
    hidden = input.new_empty(_hidden_size(len(input), cores, tiles))
    first = 0
    for core, decoder, bias, rectangles in zip(cores, decoders, biases, by_region, strict=True):
        rows = len(input) * sum(map(_area, rectangles))
        if len(core) and rows:
            inner = hidden[first : first + rows * len(core)].view(rows, len(core))
            torch.mm(_gathered(windows, rectangles), _by_taps(core).T, out=inner)
            first += inner.numel()
            values = torch.addmm(bias, inner, decoder.T)
        else:
            values = bias.expand(rows, -1)
        _scatter(output, values, rectangles)
    return output.permute(0, 3, 1, 2).contiguous(), hidden


@_forward.register_fake
def _forward_sizes(
    input: torch.Tensor, cores: Sequence[torch.Tensor], decoders: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor], tiles: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    _, grid = _by_region(tiles, len(cores))
    hidden = input.new_empty(_hidden_size(input.shape[0], cores, tiles))
    return input.new_empty(input.shape[0], biases[0].shape[0], *grid), hidden


@torch.library.custom_op("hscc::regional_conv_backward", mutates_args=())
def _backward(
    gradient: torch.Tensor, input: torch.Tensor, hidden: torch.Tensor, cores: Sequence[torch.Tensor],
    decoders: Sequence[torch.Tensor], tiles: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], of_input: bool,
) -> list[torch.Tensor]:  # fmt: skip
    """Return the gradients of the input (empty if not asked for), then of cores, decoders and biases."""
    by_region, grid = _by_region(tiles, len(cores))
    padded, kernel = _padded(input, padding), cores[0].shape[2:]
    windows = _windows(padded, kernel, grid, stride, dilation)
    last = gradient.permute(0, 2, 3, 1).contiguous()
    of_padded = torch.zeros_like(padded) if of_input else None
    of_cores, of_decoders, of_biases = [], [], []
    first = 0
    for core, decoder, rectangles in zip(cores, decoders, by_region, strict=True):
        values = _gathered(last, rectangles)
        of_biases.append(values.sum(0))
        if not values.numel() or not len(core):
            of_cores.append(torch.zeros_like(core))
            of_decoders.append(torch.zeros_like(decoder))
            continue
        inner = hidden[first : first + len(values) * len(core)].view(len(values), len(core))
        first += inner.numel()
        of_decoders.append(values.T @ inner)
        of_inner = values @ decoder
        of_taps = of_inner.T @ _gathered(windows, rectangles)
        of_cores.append(of_taps.view(len(core), *kernel, -1).permute(0, 3, 1, 2).contiguous())
        if of_padded is not None:
            _fold(of_padded, of_inner @ _by_taps(core), rectangles, kernel, stride, dilation)
    if of_padded is None:
        found = input.new_empty(0)
    else:
        left, _, top, _ = padding
        rows, columns = input.shape[2:]
        found = of_padded[:, top : top + rows, left : left + columns].permute(0, 3, 1, 2).contiguous()
    return [found, *of_cores, *of_decoders, *of_biases]


@_backward.register_fake
def _backward_sizes(
    gradient: torch.Tensor, input: torch.Tensor, hidden: torch.Tensor, cores: Sequence[torch.Tensor],
    decoders: Sequence[torch.Tensor], tiles: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], of_input: bool,
) -> list[torch.Tensor]:  # fmt: skip
    found = input.new_empty(input.shape if of_input else (0,))
    weights = [weight.new_empty(weight.shape) for weight in (*cores, *decoders)]
    return [found, *weights, *(gradient.new_empty(gradient.shape[1]) for _ in cores)]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    input, cores, decoders, _, *ctx.geometry = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(input, output[1], *cores, *decoders)


def _gradients(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> tuple[Any, ...]:
    input, hidden, *weights = ctx.saved_tensors
    count = len(weights) // 2
    wanted = ctx.needs_input_grad[0]
    of_input, *of_weights = torch.ops.hscc.regional_conv_backward(
        gradient, input, hidden, weights[:count], weights[count:], *ctx.geometry, wanted
    )
    parts = [list(of_weights[place : place + count]) for place in (0, count, 2 * count)]
    return of_input if wanted else None, *parts, None, None, None, None


_forward.register_autograd(_gradients, setup_context=_remember)
# Under autocast all is computed in the narrow type, as torch's own convolutions are.
_forward.register_autocast("cpu", torch.bfloat16)
_forward.register_autocast("cuda", torch.bfloat16)


def _by_region(tiles: Sequence[int], regions: int) -> tuple[list[list[Sequence[int]]], tuple[int, int]]:
    """Rectangles of each region, and rows and columns of the output."""
    rectangles: list[list[Sequence[int]]] = [[] for _ in range(regions)]
    for place in range(0, len(tiles), 5):
        rectangles[tiles[place]].append(tiles[place + 1 : place + 5])
    return rectangles, (max(tiles[2::5]), max(tiles[4::5]))


def _area(rectangle: Sequence[int]) -> int:
    top, bottom, left, right = rectangle
    return (bottom - top) * (right - left)


def _hidden_size(images: int, cores: Sequence[torch.Tensor], tiles: Sequence[int]) -> int:
    by_region, _ = _by_region(tiles, len(cores))
    return images * sum(
        core.shape[0] * sum(map(_area, rectangles)) for core, rectangles in zip(cores, by_region, strict=True)
    )


def _padded(input: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
    """Channels last, with zeros around: (N, rows, columns, C), contiguous."""
    return F.pad(input.permute(0, 2, 3, 1), [0, 0, *padding]).contiguous()


def _windows(
    padded: torch.Tensor, kernel: Sequence[int], grid: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> torch.Tensor:  # fmt: skip
    """View of the patches at all output positions: (N, rows', columns', kh, kw, C)."""
    image, row, column, channel = padded.stride()
    return padded.as_strided(
        (len(padded), *grid, *kernel, padded.shape[3]),
        (image, row * stride[0], column * stride[1], row * dilation[0], column * dilation[1], channel),
    )


def _gathered(values: torch.Tensor, rectangles: Sequence[Sequence[int]]) -> torch.Tensor:
    """Rows of a matrix from rectangles of (N, rows, columns, ...): one per image and position."""
    width = values[0, 0, 0].numel()
    parts = [values[:, top:bottom, left:right].reshape(-1, width) for top, bottom, left, right in rectangles]
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts) if parts else values.new_empty(0, width)


def _scatter(output: torch.Tensor, values: torch.Tensor, rectangles: Sequence[Sequence[int]]) -> None:
    """Put rows of a matrix into rectangles of (N, rows, columns, C): what `_gathered` takes from there."""
    first = 0
    for top, bottom, left, right in rectangles:
        place = output[:, top:bottom, left:right]
        count = place.shape[0] * place.shape[1] * place.shape[2]
        place.copy_(values[first : first + count].view(place.shape))
        first += count


def _fold(
    of_padded: torch.Tensor, of_patches: torch.Tensor, rectangles: Sequence[Sequence[int]], kernel: Sequence[int],
    stride: Sequence[int], dilation: Sequence[int],
) -> None:  # fmt: skip
    """Add the gradients of patches to the padded input, tap by tap."""
    first = 0
    for top, bottom, left, right in rectangles:
        rows, columns = bottom - top, right - left
        count = len(of_padded) * rows * columns
        taps = of_patches[first : first + count].view(len(of_padded), rows, columns, *kernel, -1)
        first += count
        for row in range(kernel[0]):
            top_row = top * stride[0] + row * dilation[0]
            lines = of_padded[:, top_row : top_row + (rows - 1) * stride[0] + 1 : stride[0]]
            for column in range(kernel[1]):
                left_column = left * stride[1] + column * dilation[1]
                lines[:, :, left_column : left_column + (columns - 1) * stride[1] + 1 : stride[1]] += taps[
                    :, :, :, row, column
                ]


def _by_taps(core: torch.Tensor) -> torch.Tensor:
    """(rank, C, kh, kw) to (rank, kh * kw * C)."""
    return core.permute(0, 2, 3, 1).reshape(len(core), -1)
