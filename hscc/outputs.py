"""What counts of a network's answer: classes, independent decisions or values, of one entry of what it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from hscc.errors import CompressionError

Kind = Literal["classes", "independent", "values"]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_USUAL_ENTRIES = ("logits", "out")


@dataclass(frozen=True)
class Outputs:
    """What counts of a network's answer, and how far two answers are apart.

    Attributes
    ----------
    kind : str
        "classes": logits of a softmax over dimension 1, one answer per image (N, K) or per position (N, K, ...), as in
        segmentation. "independent": logits of one sigmoid each: a binary network (N,) or (N, 1), several labels (N, K),
        a binary map (N, 1, H, W). "values": numbers, as in regression or the heads of a detector.
    entry : str or int, optional
        Which one, where the network returns a dict, tuple or dataclass. By default ``logits`` or ``out``, the only
        tensor of a dict or dataclass, or the first entry of a tuple or list. A network that returns a tensor (in
        evaluation mode, say) needs none.
    scale : tuple of float
        Of values: the standard deviation of each output over the dense network's answers, which is the unit of errors.
        `hscc.calibrate` fills it in; empty for the other kinds.

    Raises
    ------
    CompressionError
        If the kind is unknown, or a scale is not positive.

    Examples
    --------
    >>> Outputs("classes", entry="out").select({"out": torch.zeros(1, 21, 8, 8)}).shape
    torch.Size([1, 21, 8, 8])
    """

    kind: Kind = "classes"
    entry: str | int | None = None
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind not in _KINDS:
            raise CompressionError(f"kind={self.kind!r} is not one of outputs; give {', '.join(map(repr, _KINDS))}.")
        if not all(deviation > 0 for deviation in self.scale):
            raise CompressionError(f"scale={self.scale} holds a number that is not positive; leave it to calibrate.")

    @classmethod
    def infer(cls, raw: Any) -> Outputs:
        """Choose what counts by the shape of an answer.

        Parameters
        ----------
        raw : Tensor, mapping, sequence or dataclass
            What the network returns. (N, K >= 2) and (N, K >= 2, ...) are taken as classes; (N,), (N, 1) and
            (N, 1, ...) as independent decisions. Values look like either, so they must be asked for.

        Raises
        ------
        CompressionError
            If no entry is the usual one, or it is no float tensor with one answer per image.
        """
        found = _tensor(raw, None)
        return cls("classes" if found.ndim > 1 and found.shape[1] > 1 else "independent")

    def select(self, raw: Any) -> torch.Tensor:
        """Return what counts of an answer.

        Parameters
        ----------
        raw : Tensor, mapping, sequence or dataclass
            What the network returns.

        Returns
        -------
        Tensor, shape (N, K, *positions)
            Of at least float32; differentiable.

        Raises
        ------
        CompressionError
            If the entry is missing or unclear, is no float tensor with one answer per image, or is of one class only.
        """
        found = _tensor(raw, self.entry)
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        if found.ndim == 1:
            found = found[:, None]
        if self.kind == "classes" and found.shape[1] < 2:
            raise CompressionError(
                f"the network's output has shape {tuple(found.shape)}, and one class is always right; pass "
                'output=hscc.Outputs("independent") for a sigmoid or hscc.Outputs("values") for a regression.'
            )
        if self.scale and found.shape[1] != len(self.scale):
            raise CompressionError(
                f"the network gives {found.shape[1]} values and the scale is of {len(self.scale)}; calibrate again."
            )
        return found

    def centred(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs whose squared change the sensitivity measures.

        Logits of classes less their mean over classes, which the softmax does not see; independent logits as they are;
        values in units of their scale, where it is known.

        Parameters
        ----------
        outputs : Tensor, shape (N, K, *positions)
            From `select`.
        """
        if self.kind == "classes":
            return outputs - outputs.mean(1, keepdim=True)
        if self.kind == "values" and self.scale:
            return outputs / self._deviations(outputs)
        return outputs

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return what a user reads: probabilities of classes or of independent decisions, values as they are.

        Parameters
        ----------
        outputs : Tensor, shape (N, K, *positions)
            From `select`.

        Returns
        -------
        Tensor, shape (N, K, *positions)
        """
        if self.kind == "classes":
            return torch.softmax(outputs, dim=1)
        return torch.sigmoid(outputs) if self.kind == "independent" else outputs

    def metric(self, outputs: int) -> torch.Tensor:
        """Matrix M of float64 with d^T M d the squared change of the centred outputs for a change d, shape (K, K).

        Parameters
        ----------
        outputs : int
            K.
        """
        rows = self.centred(torch.eye(outputs, dtype=torch.float64))
        return rows.T @ rows

    def divergence(
        self, outputs: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
    ) -> torch.Tensor:  # fmt: skip
        """How far answers are from their targets, image by image, in nats.

        Parameters
        ----------
        outputs, targets : Tensor, shape (N, K, *positions)
            From `select`: answers of the compressed and of the dense network. Differentiable.
        temperature : float
            That logits are divided by; the divergence is multiplied by its square, which keeps the size of gradients
            (Hinton et al., 2015, Distilling the knowledge in a neural network). Values have none.

        Returns
        -------
        Tensor, shape (N,)
            The mean over positions of the Kullback-Leibler divergence from the targets' probabilities to the outputs':
            of one softmax, of K sigmoids added, or, for values, of normal distributions with the standard deviations of
            `scale`, which is half the squared error in these units, added over K. Without a scale the unit is the
            deviation of the given targets over images and positions.
        """
        if self.kind == "values":
            deviations = self._deviations(targets) if self.scale else _deviations(targets)
            apart = ((outputs - targets) / deviations).square() / 2
        elif self.kind == "independent":
            apart = _bernoulli_divergence(outputs / temperature, targets / temperature) * temperature**2
        else:
            found, wanted = (F.log_softmax(logits / temperature, dim=1) for logits in (outputs, targets))
            apart = F.kl_div(found, wanted, log_target=True, reduction="none") * temperature**2
        return apart.flatten(2).sum(1).mean(1) if apart.ndim > 2 else apart.sum(1)

    def measured(self, deviations: torch.Tensor) -> Outputs:
        """Return the same with the standard deviations of values, shape (K,); one that never varies has the unit 1."""
        if self.kind != "values":
            return self
        varies = deviations > 0
        return dataclasses.replace(self, scale=tuple(deviations.where(varies, torch.ones_like(deviations)).tolist()))

    def to_record(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Outputs:
        """Read `to_record`'s form."""
        return cls(record["kind"], record["entry"], tuple(record["scale"]))

    def _deviations(self, like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.scale, dtype=like.dtype, device=like.device).reshape(-1, *[1] * (like.ndim - 2))


class Selected(nn.Module):
    """A network that returns what counts of its answer: one tensor, whatever the network itself returns.

    Parameters
    ----------
    network : nn.Module
        Of one input.
    outputs : Outputs
        What counts.
    """

    def __init__(self, network: nn.Module, outputs: Outputs) -> None:
        super().__init__()
        self.network, self.outputs = network, outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See `Outputs.select`."""
        return self.outputs.select(self.network(images))


def _bernoulli_divergence(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    # log sigmoid(-z) is log(1 - sigmoid(z)): both halves keep their digits however sure the answer is.
    likely = targets.sigmoid()
    yes = F.logsigmoid(targets) - F.logsigmoid(outputs)
    no = F.logsigmoid(-targets) - F.logsigmoid(-outputs)
    return likely * yes + (1 - likely) * no


def _deviations(targets: torch.Tensor) -> torch.Tensor:
    others = [axis for axis in range(targets.ndim) if axis != 1]
    found = targets.detach().std(others, correction=0, keepdim=True)[0]
    return found.where(found > 0, torch.ones_like(found))


def _tensor(raw: Any, entry: str | int | None) -> torch.Tensor:
    found = raw if isinstance(raw, torch.Tensor) else _entry(raw, entry)
    if not isinstance(found, torch.Tensor):
        raise _unclear(raw, f"its entry {entry!r} is a {type(found).__name__}")
    if not found.is_floating_point():
        raise CompressionError(
            f"the network's output is of {found.dtype}; let it return the logits or values before they are decided on."
        )
    if not found.ndim:
        raise CompressionError("the network's output is one number for a whole batch; it must hold one row per image.")
    return found


def _entry(raw: Any, entry: str | int | None) -> Any:
    entries = _entries(raw)
    if entry is not None:
        if entry not in entries:
            raise _unclear(raw, f"it has no entry {entry!r}")
        return entries[entry]
    for name in _USUAL_ENTRIES:
        if isinstance(entries.get(name), torch.Tensor):
            return entries[name]
    tensors = [value for value in entries.values() if isinstance(value, torch.Tensor)]
    if isinstance(raw, tuple | list) and tensors and raw[0] is tensors[0]:
        return raw[0]
    if len(tensors) == 1:
        return tensors[0]
    raise _unclear(raw, "which entry counts is not clear")


def _entries(raw: Any) -> dict[str | int, Any]:
    if isinstance(raw, Mapping):
        return dict(raw)
    if dataclasses.is_dataclass(raw) and not isinstance(raw, type):
        return {field.name: getattr(raw, field.name) for field in dataclasses.fields(raw)}
    if isinstance(raw, tuple | list):
        named: dict[str | int, Any] = dict(enumerate(raw))
        named.update({name: getattr(raw, name) for name in getattr(raw, "_fields", ())})
        return named
    return {}


def _unclear(raw: Any, why: str) -> CompressionError:
    entries = _entries(raw)
    described = ", ".join(
        f"{name!r} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"{name!r} ({type(value).__name__})"
        for name, value in entries.items()
    )
    if not entries:
        return CompressionError(
            f"the network's output is a {type(raw).__name__} without entries; let it return a tensor, a dict, a tuple "
            "or a dataclass of tensors."
        )
    return CompressionError(
        f"the network's output is a {type(raw).__name__} and {why}; name one of {described}, as in "
        'output=hscc.Outputs("classes", entry="...").'
    )
