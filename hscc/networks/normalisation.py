"""The statistics that a network's input is normalised by."""

from __future__ import annotations

from dataclasses import dataclass

from hscc.networks.backbones import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, for levels scaled to 0..1; the defaults are ImageNet's.

    Attributes
    ----------
    mean, std : tuple of float
        Of the channels of a network's input.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)


IMAGENET = Normalisation()
