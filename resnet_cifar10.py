"""Train ResNet-56 on CIFAR-10 and watch it: stop, change the learning rate, go on.

  python resnet_cifar10.py --checkpoints output/checkpoints
  (Ctrl+C, then the command that it prints, with another --learning-rate)
  python resnet_cifar10.py --checkpoints output/checkpoints \\
      --model output/checkpoints/epoch_40.hdf5 --start-epoch 40 \\
      --learning-rate 0.01

SGD with momentum 0.9. The original reached 93.22% after 85 epochs, lowering the rate by hand.
"""

from config import cifar10_config as config
from pipeline.command_line.training import run_training

if __name__ == "__main__":
    run_training(__doc__, config.WATCHED)
