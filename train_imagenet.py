"""Train the pre-activation ResNet-50 on ImageNet.

  python build_imagenet.py
  python train_imagenet.py --precision mixed_bfloat16 --workers 16
  python train_imagenet.py --precision mixed_bfloat16 --workers 16 --recipe fast

25,595,060 parameters, 90 epochs of batch 256: days on one GPU. --recipe fast takes 16 epochs on
smaller pictures: hours. Others' ResNet-50s reach 76.05 to 76.30% rank-1 in 90 epochs, ffcv's 73.8%
in 16.
"""

from config import imagenet_config as config
from pipeline.command_line.training import run_training

if __name__ == "__main__":
    run_training(__doc__, config.EXPERIMENT)
