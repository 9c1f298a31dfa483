from pipeline.nn.conv.resnet import ResNet
from pipeline.nn.conv.resnet18 import ResNet18

__all__ = ["ResNet", "ResNet18"]
