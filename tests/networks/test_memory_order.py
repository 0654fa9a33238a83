import pytest
import torch
from torch import nn

import hscc
from hscc.networks.memory_order import laid_out, lay_out


class Viewed(nn.Module):
    """A network that flattens a map by `view`, which needs the channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        return self.linear(x.view(x.size(0), -1))


class Merged(nn.Module):
    """A network that merges images and groups of channels by `view`, which a single image hides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        means = x.view(x.size(0) * 2, 4, *x.shape[2:]).mean((1, 2, 3))
        return self.linear(means.view(x.size(0), 2))


class Failing(nn.Module):
    """A network that fails by another error."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise TypeError(self.conv(x).shape)


def kernel_is_last(network: nn.Module) -> bool:
    (kernel,) = (parameter for parameter in network.parameters() if parameter.ndim > 3)
    return kernel.stride(1) == 1


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("training", [True, False])
def test_values_stay_and_the_order_comes_back(pictures: torch.Tensor, training: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with laid_out(network, pictures):
        assert kernel_is_last(network)
        assert all(module.training is training for module in network.modules())
    assert not kernel_is_last(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_order_that_was_asked_for_stays(pictures: torch.Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with laid_out(network, pictures):
        pass
    assert kernel_is_last(network)


@pytest.mark.parametrize("made", [Viewed, Merged])
def test_a_network_that_needs_the_channels_first_keeps_them(made: type[nn.Module], pictures: torch.Tensor) -> None:
    network = made()
    assert not lay_out(network, pictures)
    assert not kernel_is_last(network)
    network(pictures)


def test_a_network_that_fails_is_left_as_it_was(pictures: torch.Tensor) -> None:
    network = Failing()
    with pytest.raises(TypeError):
        lay_out(network, pictures)
    assert not kernel_is_last(network)


def test_volumes_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv3d(2, 4, 3))
    lay_out(network, torch.randn(1, 2, 5, 5, 5))
    assert not kernel_is_last(network)


def test_a_network_that_flattens_by_view_is_refitted_and_fine_tuned() -> None:
    torch.manual_seed(0)
    model, images = Viewed().eval(), list(torch.randn(64, 3, 8, 8).split(16))
    small = hscc.compress(model, images, hscc.HSCC(), hscc.Budget(macs=2))
    assert not kernel_is_last(model)  # the caller's
    tuned = hscc.finetune(small, model, images, images[:1], hscc.Finetuning(epochs=1, learning_rates=(1e-4,)))
    assert tuned.after["val_kl"] <= tuned.before["val_kl"]
