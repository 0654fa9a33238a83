"""The networks that the parameters name, as earlier stages left them."""

from __future__ import annotations

from pathlib import Path

from hscc.evaluation.networks import Network, read_baseline, read_cell, read_twin
from hscc.params import Params
from hscc.stages import layout


def read_own(params: Params, workspace: Path) -> list[Network]:
    """Read the baseline of ``data.protocol`` and then its cells.

    Raises
    ------
    ArtifactError
        If a network is missing or does not fit; the message names the stage to run.
    """
    own = params.data.protocol
    cells = [
        read_cell(workspace / layout.cell(method, budget, seed), method, budget, seed, own)
        for method, budget, seed in params.compress.cells
    ]
    return [read_baseline(workspace / layout.baseline(own), own), *cells]


def of_first_seed(params: Params, networks: list[Network]) -> list[Network]:
    """Leave out what differs from another network in its seed only: the clock and int8 have no need of it."""
    first = params.compress.seeds[0]
    return [network for network in networks if network.is_dense or network.seed == first]


def without_controls(params: Params, networks: list[Network]) -> list[Network]:
    """Leave out the controls, which nobody deploys."""
    return [network for network in networks if network.method not in params.compress.controls]


def read_twins(params: Params, workspace: Path, networks: list[Network]) -> list[Network]:
    """Read the int8 twins of those of the networks that have one; none where ``quantise.enabled`` is off.

    Raises
    ------
    ArtifactError
        As `read_own`, also if a twin was made from another file.
    """
    if not params.quantise.enabled:
        return []
    made = without_controls(params, of_first_seed(params, networks))
    return [read_twin(workspace / layout.twin(network.name), network) for network in made]


def read_others(params: Params, workspace: Path) -> list[Network]:
    """Read the baselines of the protocols other than ``data.protocol``.

    Raises
    ------
    ArtifactError
        As `read_own`.
    """
    others = (protocol for protocol in params.train.protocols if protocol != params.data.protocol)
    return [read_baseline(workspace / layout.baseline(protocol), protocol) for protocol in others]
