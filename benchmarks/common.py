"""What the scripts share: a network with random weights, and a table."""

from __future__ import annotations

import torch
from rich.table import Table
from torch import nn

from hscc.networks.backbones import build, initialise

CLASSES = 4


def random_network(backbone: str, outputs: int = CLASSES) -> nn.Module:
    """Build a registered backbone with the same random weights at every call, in evaluation mode."""
    torch.manual_seed(0)
    model = build(backbone, outputs)
    initialise(model)
    return model.eval()


def new_table(title: str, text: str, numbers: str) -> Table:
    """Make a table whose text columns are on the left; headings are separated by commas."""
    table = Table(title=title)
    for heading in text.split(", "):
        table.add_column(heading, no_wrap=True)
    for heading in numbers.split(", "):
        table.add_column(heading, justify="right")
    return table
