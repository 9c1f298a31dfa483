"""Train a ResNet on Tiny ImageNet and watch it: stop, change the learning rate, go on.

  python train.py --checkpoints output/checkpoints_tinyimagenet
  (Ctrl+C, then the command that it prints, with another --learning-rate)
  python train.py --checkpoints output/checkpoints_tinyimagenet \\
      --model output/checkpoints_tinyimagenet/epoch_25.hdf5 --start-epoch 25 \\
      --learning-rate 0.01

SGD with Nesterov momentum 0.9. The original reached 57.27% rank-1 after 70 epochs.
"""

from config import tiny_imagenet_config as config
from pipeline.command_line.training import run_training

if __name__ == "__main__":
    run_training(__doc__, config.WATCHED)
