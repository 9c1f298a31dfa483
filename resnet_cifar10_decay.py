"""Train ResNet-56 on CIFAR-10 unattended, with a learning rate that falls to zero.

  python resnet_cifar10_decay.py --output output \\
      --model output/resnet_cifar10.hdf5

SGD with momentum 0.9 and linear decay. The original reached 93.79% after 150 epochs.
--recipe modern trains the same network with later improvements, --recipe fast in 56 epochs.
"""

from config import cifar10_config as config
from pipeline.command_line.training import run_training

if __name__ == "__main__":
    run_training(__doc__, config.DECAY)
