"""The same pre-activation ResNet in PyTorch, as its users would write it, to measure against."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.nn.conv.resnet import STEMS


class PyTorchResNet(nn.Module):
    """`pipeline.nn.conv.ResNet` layer for layer, of the same names; returns logits.

    Images are (batch, channels, height, width). Only the padding in front of strided 3x3 and 7x7
    convolutions and pools is PyTorch's own, on both sides.

    Args:
        classes, stages, filters, dataset: as for `ResNet.build`.
    """

    def __init__(self, classes: int, stages: Sequence[int], filters: Sequence[int], dataset: str):
        super().__init__()
        self.stem, self.stages = STEMS[dataset], tuple(stages)
        self.parts = parts = nn.ModuleDict()

        def normalization(name: str, channels: int) -> None:
            parts[name] = nn.BatchNorm2d(channels, eps=2e-5, momentum=0.1)

        def convolution(name: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
            parts[name] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)

        normalization("input_bn", 3)
        convolution("conv1", 3, filters[0], self.stem.kernel, self.stem.stride)
        if self.stem.max_pool:
            normalization("conv1_bn", filters[0])
        inputs = filters[0]
        for stage, (modules, outputs) in enumerate(zip(stages, filters[1:], strict=True)):
            for module in range(modules):
                name = f"conv{stage + 2}_{module + 1}"
                stride = 2 if stage > 0 and module == 0 else 1
                normalization(f"{name}_bn1", inputs)
                convolution(f"{name}_conv1", inputs, outputs // 4, 1)
                normalization(f"{name}_bn2", outputs // 4)
                convolution(f"{name}_conv2", outputs // 4, outputs // 4, 3, stride)
                normalization(f"{name}_bn3", outputs // 4)
                convolution(f"{name}_conv3", outputs // 4, outputs, 1)
                if module == 0:
                    convolution(f"{name}_shortcut", inputs, outputs, 1, stride)
                inputs = outputs
        normalization("bn", inputs)
        parts["fc"] = nn.Linear(inputs, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits, (batch, classes)."""
        parts = self.parts

        def activation(name: str, x: torch.Tensor) -> torch.Tensor:
            return functional.relu(parts[name](x), inplace=True)

        x = parts["conv1"](parts["input_bn"](images))
        if self.stem.max_pool:
            x = functional.max_pool2d(activation("conv1_bn", x), 3, 2, padding=1)
        for stage, modules in enumerate(self.stages):
            for module in range(modules):
                name = f"conv{stage + 2}_{module + 1}"
                activated = activation(f"{name}_bn1", x)
                branch = parts[f"{name}_conv1"](activated)
                branch = parts[f"{name}_conv2"](activation(f"{name}_bn2", branch))
                branch = parts[f"{name}_conv3"](activation(f"{name}_bn3", branch))
                x = branch + (parts[f"{name}_shortcut"](activated) if module == 0 else x)
        x = activation("bn", x)
        x = functional.avg_pool2d(x, self.stem.final_pool or x.shape[-2:])
        return parts["fc"](x.flatten(1))
