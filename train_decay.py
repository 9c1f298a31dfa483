"""Train a ResNet on Tiny ImageNet unattended, with a learning rate that falls to zero.

  python train_decay.py --model output/resnet_tinyimagenet_decay.hdf5

SGD with Nesterov momentum 0.9 and linear decay. The original reached 57.93% rank-1 after 75 epochs.
--recipe modern and modern_cutmix train the same network with later improvements, --recipe fast in
42 epochs.
"""

from config import tiny_imagenet_config as config
from pipeline.command_line.training import run_training

if __name__ == "__main__":
    run_training(__doc__, config.DECAY)
