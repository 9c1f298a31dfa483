from pipeline.nn.conv.resnet import ResNet

__all__ = ["ResNet"]
