"""A torch network as a program, by way of torch.export's graph."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.fx import GraphModule, Node

from hscc.engine import fused
from hscc.engine.lowering import LOWERINGS, moved, moves
from hscc.engine.passes import simplify_program
from hscc.engine.program import Affine, Program
from hscc.engine.views import UnsupportedError, Values, View
from hscc.errors import ExportError, first_few, first_line

_BATCH = 2  # torch.export takes a batch of one for a constant in places


def trace(network: nn.Module, input_shapes: Sequence[Sequence[int]]) -> Program:
    """Make a program of a network.

    Compressed layers stay whole. BatchNorm, activations, residual additions and the like move into the operation
    before them. The card names the inputs and outputs with their shapes of one image.

    Parameters
    ----------
    network : nn.Module
        Not changed; it is traced in evaluation mode and float32.
    input_shapes : sequence of sequence of int
        Of each input, without the batch: (C,), (C, L), (C, H, W) or (C, D, H, W).

    Raises
    ------
    ExportError
        If torch.export cannot trace the network, or it needs what the engine does not have; all of it is named.
    """
    return trace_prepared(prepared(network), input_shapes)


def prepared(network: nn.Module) -> nn.Module:
    """Copy a network in the form that is traced: evaluation mode, CPU, float32, contiguous, no gradients."""
    ready = copy.deepcopy(network).eval().cpu().float().requires_grad_(False)
    return ready.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def trace_prepared(ready: nn.Module, input_shapes: Sequence[Sequence[int]]) -> Program:
    """Make a program of a network from `prepared`, which must not be used afterwards; see `trace`."""
    marked: list[nn.Module] = []
    ready = _mark(ready, marked)
    examples = tuple(torch.zeros(_BATCH, *shape) for shape in input_shapes)
    exported = _export(ready, examples)
    return _Tracer(exported, marked, input_shapes).program()


def _mark(module: nn.Module, marked: list[nn.Module]) -> nn.Module:
    """Put a single operator in the place of each compressed layer."""
    if fused.is_whole(module):
        marked.append(module)
        return _Marker(module, len(marked) - 1)
    for name, child in module.named_children():
        replaced = _mark(child, marked)
        if replaced is not child:
            setattr(module, name, replaced)
    return module


class _Marker(nn.Module):
    def __init__(self, module: nn.Module, number: int) -> None:
        super().__init__()
        self.layer = [module]  # no submodule: its weights are no part of the graph
        self.number = number

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        sizes = fused.output_sizes(self.layer[0], input.shape)
        return cast(torch.Tensor, torch.ops.hscc.whole_layer(input, self.number, sizes))


@torch.library.custom_op("hscc::whole_layer", mutates_args=())
def _whole_layer(input: torch.Tensor, number: int, sizes: Sequence[int]) -> torch.Tensor:
    raise NotImplementedError("it stands for a layer in a graph and is not run")


@_whole_layer.register_fake
def _whole_layer_sizes(input: torch.Tensor, number: int, sizes: Sequence[int]) -> torch.Tensor:
    return input.new_empty(sizes)


def _export(network: nn.Module, examples: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch.export, about its own insides
            exported = torch.export.export(network, examples, strict=False)
            if _has_side_effects(exported.graph_module):
                exported = exported.run_decompositions({})
    except Exception as error:  # anything: it runs the network's own code
        raise ExportError(
            f"torch.export cannot trace the network on inputs of shape {[tuple(e.shape) for e in examples]} "
            f"({first_line(error)}); check the input shape, or keep the portable ONNX file."
        ) from error
    return exported


def _has_side_effects(graph: GraphModule) -> bool:
    """Whether an operator in place writes to a tensor that is read afterwards, or shares its memory with another."""
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    for node in graph.graph.nodes:
        if not _writes_in_place(node):
            continue
        target = node.args[0]
        if target.op == "get_attr" or _shares_memory(target):
            return True
        if any(order[user] > order[node] or _shares_memory(user) for user in target.users if user is not node):
            return True
    return False


def _writes_in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and bool(schema.is_mutable)


def _shares_memory(node: Node) -> bool:
    """Whether a node's result may be a view."""
    if node.op != "call_function" or node.target is operator.getitem:
        return node.op == "call_function"
    schema = getattr(node.target, "_schema", None)
    if schema is None or schema.is_mutable:
        return False
    aliased = any(result.alias_info is not None for result in schema.returns)
    name = str(node.target).removeprefix("aten.")
    return aliased or (moves(name) and name != "clone.default") or name in ("contiguous.default", "to.dtype")


class _Tracer:
    """Goes through a graph once, in order."""

    def __init__(
        self, exported: torch.export.ExportedProgram, marked: Sequence[nn.Module], input_shapes: Sequence[Sequence[int]]
    ) -> None:  # fmt: skip
        self.exported, self.marked, self.input_shapes = exported, marked, input_shapes
        self.values = Values(_BATCH)
        self.known: dict[Node, Any] = {}
        self.unsupported: dict[str, list[str]] = {}

    def program(self) -> Program:
        graph = self.exported.graph_module.graph
        signature = self.exported.graph_signature
        constants = {
            **signature.inputs_to_parameters, **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }  # fmt: skip
        tensors = {**self.exported.state_dict, **self.exported.constants}
        inputs = []
        for node in graph.nodes:
            if node.op == "placeholder":
                if node.name in constants:
                    self.known[node] = tensors[constants[node.name]]
                elif node.name in signature.user_inputs:
                    self.known[node] = self._input(node)
                    inputs.append(node.name)
            elif node.op == "call_function" and (node.users or _writes_in_place(node)):
                self.known[node] = self._called(node)
            elif node.op == "get_attr":
                self.known[node] = self._attribute(str(node.target))
            elif node.op == "output":
                outputs = list(node.args[0])[-len(signature.user_outputs) :]
        program = self._finished(inputs, outputs)
        return simplify_program(program)

    def _input(self, node: Node) -> View:
        view = self.values.new(tuple(node.meta["val"].shape))
        self.values.program.inputs.append(view.value)
        return view

    def _attribute(self, path: str) -> Any:
        found: Any = self.exported.graph_module
        for name in path.split("."):
            found = getattr(found, name)
        return found

    def _called(self, node: Node) -> Any:
        args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), lambda given: self.known[given])
        if node.target is operator.getitem:
            parts, place = args
            if isinstance(parts, list) and isinstance(place, int) and place >= len(parts):
                (made,) = node.all_input_nodes
                self._refuse(_short(made), node, "with its indices or other further results")
                return self._stand_in(_sizes(node.meta.get("val")))
            return parts[place]  # type: ignore[index]
        if not any(isinstance(item, View) for item in _leaves((args, kwargs))):
            return node.target(*args, **kwargs)  # type: ignore[operator]  # depends on constants alone
        sizes = _sizes(node.meta.get("val"))
        try:
            return self._lowered(node, sizes, args, kwargs)
        except UnsupportedError as error:
            self._refuse(_short(node), node, str(error))
        return self._stand_in(sizes)

    def _lowered(self, node: Node, sizes: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = str(node.target)
        if name.startswith("hscc.whole_layer"):
            return fused.lower(self.values, self.marked[args[1]], args[0], sizes)
        name = name.removeprefix("aten.")
        if moves(name) and isinstance(args[0], View):
            return moved(name, node.target, sizes, args[0], args[1:], kwargs)  # type: ignore[arg-type]
        base, _, overload = name.partition(".")
        lowering = LOWERINGS.get(name) or LOWERINGS.get(f"{base.rstrip('_')}.{overload}")
        if lowering is None:
            raise UnsupportedError("")
        return lowering(self.values, sizes, *args, **kwargs)

    def _refuse(self, what: str, node: Node, reason: str) -> None:
        stack = node.meta.get("nn_module_stack") or {}
        path = next((entry[0] for entry in reversed(list(stack.values())) if entry[0]), "")
        text = f"{what} ({reason})" if reason else what
        places = self.unsupported.setdefault(text, [])
        if path and path not in places:
            places.append(path)

    def _stand_in(self, sizes: Any) -> Any:
        """Return a value in the place of one that cannot be computed, so that all problems are found in one go."""
        if isinstance(sizes, list):
            return [self._stand_in(each) for each in sizes]
        shape = (_BATCH, *sizes[1:]) if sizes else (_BATCH, 1)
        view = View(0, tuple(sizes), torch.zeros(tuple(sizes), dtype=torch.int32))
        return view if len(shape) > 5 or len(shape) < 2 or tuple(sizes) != shape else self.values.new(shape)

    def _finished(self, inputs: Sequence[str], outputs: Sequence[Any]) -> Program:
        values = self.values
        named = zip(_names(self.exported, len(outputs)), outputs, strict=True)
        described = []
        for name, node in named:
            if not isinstance(node, Node):  # None, or a number
                continue
            view = self.known[node]
            try:
                if not isinstance(view, View):
                    raise UnsupportedError("an output that does not depend on the input")
                straight = values.straight(view)
            except UnsupportedError as error:
                self._refuse(f"the output {name}", node, str(error))
                continue
            value = straight.value
            if value in values.program.inputs or value in values.program.outputs:
                value = values.program.value(values.shape(straight))
                values.add(Affine((straight.value,), value))
            values.program.outputs.append(value)
            described.append({"name": name, "shape": list(view.sizes[1:])})
        if self.unsupported:
            raise ExportError(_sentence(self.unsupported))
        values.program.card = {
            "inputs": [
                {"name": name, "shape": list(shape)} for name, shape in zip(inputs, self.input_shapes, strict=True)
            ],
            "outputs": described,
        }
        return values.program


def _sentence(unsupported: dict[str, list[str]]) -> str:
    found = []
    for text, places in unsupported.items():
        shown = first_few(places)
        found.append(f"{text} at {shown}" if shown else text)
    return f"the engine does not support {'; '.join(found)}: the portable ONNX file remains (hscc.export_onnx)."


def _short(node: Node) -> str:
    return str(node.target).removeprefix("aten.").removesuffix(".default")


def _sizes(value: Any) -> Any:
    """Sizes of a result, or a list of them; empty for what is no tensor."""
    if isinstance(value, torch.Tensor):
        return tuple(int(size) for size in value.shape)
    if isinstance(value, (list, tuple)):
        return [_sizes(each) for each in value]
    return ()


def _leaves(items: Any) -> list[Any]:
    if isinstance(items, dict):
        items = list(items.values())
    if isinstance(items, (list, tuple)):
        return [leaf for item in items for leaf in _leaves(item)]
    return [items]


def _names(exported: torch.export.ExportedProgram, count: int) -> list[str]:
    """Names of the outputs: their keys in a dictionary, their places in a tuple; ``output`` if there is one."""
    if count == 1:
        return ["output"]
    spec = exported.call_spec.out_spec
    tree = torch.utils._pytree.tree_unflatten(list(range(count)), spec)
    paths, _ = torch.utils._pytree.tree_flatten_with_path(tree)
    keys = [".".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
            for path, _ in paths]  # fmt: skip
    return [f"output_{key}" if key.isdigit() else key for key in keys]
