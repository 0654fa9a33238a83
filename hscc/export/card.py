"""What a deployed file says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from hscc.errors import ExportError
from hscc.export.preprocessing import Preprocessing
from hscc.outputs import Kind, Outputs
from hscc.plans import Plan

NOTICE = "Research software, not a medical device: not for diagnosis or treatment."


@dataclass(frozen=True)
class DeploymentCard:
    """Where a network comes from and what is known of it. What is not known stays empty and is left out of the file.

    Attributes
    ----------
    classes : tuple of str
        Names of the outputs, in order.
    backbone, method, budget, plan : str
        What was compressed, by what, to what, and the plan as a table.
    protocol, data_hash, git_commit : str
        Split protocol, content hash of the data and commit of the code.
    network_sha256 : str
        Of the network's own ONNX file, by which results and registry know it.
    scores : mapping of str to float
        On the test split of the protocol.
    licence, notice : str
        Of the network and its data; what it is not to be used for.
    data, subject : str
        Title of the data set; what one of its images is, such as "brain MRI slice".
    class_names : mapping of str to str
        Names of classes for a reader, where they differ.
    plausible : mapping of str to object
        What a picture must be like to be one of these, as who serves the network checks it; anything JSON can hold.
    output_kind : {"classes", "independent", "values"} or None
        What the network's outputs are, see `hscc.Outputs`; None for what their shape says. Not written for
        classes.
    window : (float, float) or None
        Values of 16-bit pictures, DICOM and volumes that become the levels 0 and 255; None where a file decides itself.
    """

    classes: tuple[str, ...]
    backbone: str = ""
    method: str = ""
    budget: str = ""
    plan: str = ""
    protocol: str = ""
    data_hash: str = ""
    git_commit: str = ""
    network_sha256: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    licence: str = ""
    notice: str = NOTICE
    data: str = ""
    subject: str = ""
    class_names: Mapping[str, str] = field(default_factory=dict)
    plausible: Mapping[str, object] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    output_kind: Kind | None = None

    def check_classes(self, outputs: int) -> None:
        """Refuse a card that names another number of classes than the network has outputs: ExportError."""
        if len(self.classes) != outputs:
            raise ExportError(f"the card names {len(self.classes)} classes but the network has {outputs} outputs.")

    def entries(self, preprocessing: Preprocessing) -> dict[str, str]:
        """Give what is known as text by name; lists and numbers as JSON."""
        words = ("backbone", "method", "budget", "plan", "protocol", "data_hash", "git_commit", "network_sha256")
        entries = {
            "classes": json.dumps(self.classes, ensure_ascii=False),
            "input": "image: uint8 (batch, slices, rows, columns), grey levels"
            if preprocessing.of_volumes
            else "image: uint8 (batch, rows, columns, channels); grey, grey and alpha, RGB, or RGB and alpha",
            "output": describe_output(Outputs(self.output_kind or "classes"), ()),
            "output_kind": "" if self.output_kind in (None, "classes") else str(self.output_kind),
            "preprocessing": preprocessing.describe(),
            **{name: getattr(self, name) for name in (*words, "licence", "notice", "data", "subject")},
            **{
                name: json.dumps(dict(found), ensure_ascii=False) if (found := getattr(self, name)) else ""
                for name in ("scores", "class_names", "plausible")
            },
            "window": "" if self.window is None else json.dumps(self.window),
        }
        return {name: text for name, text in entries.items() if text}


def describe_output(output: Outputs, positions: Sequence[int]) -> str:
    """Say what a deployed file gives: its name, its type and its axes, a map's with their sizes."""
    name = "values" if output.kind == "values" else "probabilities"
    second = {"classes": "classes", "independent": "decisions", "values": "values"}[output.kind]
    return f"{name}: float32 ({', '.join(['batch', second, *map(str, positions)])})"


def card_of(model: nn.Module, classes: int) -> DeploymentCard:
    """Say what a network says of itself: numbered classes, and the plan that it was compressed by."""
    plan = getattr(model, "hscc_plan", None)
    names = tuple(str(index) for index in range(classes))
    if not isinstance(plan, Plan):
        return DeploymentCard(names, backbone=type(model).__name__)
    return DeploymentCard(
        names, backbone=type(model).__name__, method=plan.method, budget=str(plan.budget), plan=str(plan)
    )
