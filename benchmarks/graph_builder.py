"""Small ONNX graphs with random weights, written node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT = "x"
_OPSET, _IR = 20, 10


class GraphBuilder:
    """Collects nodes and constants; methods take the names of values and return the name of a new one."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output."""
        return self.nodes(kind, inputs, 1, **attributes)[0]

    def nodes(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        names = [f"{kind.lower()}_{len(self._nodes)}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def constant(self, array: npt.ArrayLike) -> str:
        """Add a constant."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a vector of integers."""
        return self.constant(np.array(values, dtype=np.int64))

    def weights(self, *shape: int) -> str:
        """Add random weights, scaled so that activations keep their size."""
        scale = max(int(np.prod(shape[1:])), 1) ** 0.5
        return self.constant((self._random.standard_normal(shape) / scale).astype(np.float32))

    def conv(
        self, x: str, weight: tuple[int, int, tuple[int, int]], *, stride: tuple[int, int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0), groups: int = 1, bias: bool = False,
    ) -> str:  # fmt: skip
        """Convolve; `weight` is outputs, inputs and the kernel, `pads` are top, left, bottom, right."""
        outputs, inputs, kernel = weight
        operands = [x, self.weights(outputs, inputs // groups, *kernel)] + ([self.weights(outputs)] if bias else [])
        return self.node("Conv", operands, kernel_shape=kernel, strides=stride, pads=list(pads), group=groups)

    def join(self, parts: Sequence[str], axis: int) -> str:
        """Concatenate, if there is more than one part."""
        return self.node("Concat", parts, axis=axis) if len(parts) > 1 else parts[0]

    def cut(self, x: str, window: dict[int, tuple[int, int]]) -> str:
        """Slice; `window` maps an axis to its first and end index."""
        axes = sorted(window)
        bounds = [self.integers(*(window[axis][side] for axis in axes)) for side in (0, 1)]
        return self.node("Slice", [x, *bounds, self.integers(*axes)])

    def transpose(self, x: str, *order: int) -> str:
        """Permute axes."""
        return self.node("Transpose", [x], perm=order)

    def pool(self, x: str) -> str:
        """Add a 1 x 1 pooling: the identity, in ONNX Runtime's blocked layout."""
        return self.node("MaxPool", [x], kernel_shape=[1, 1], strides=[1, 1])

    def model(self, output: str, shape: Sequence[int | str]) -> onnx.ModelProto:
        """Finish the graph, whose input `INPUT` has a shape."""
        graph = helper.make_graph(
            self._nodes,
            "layer",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
