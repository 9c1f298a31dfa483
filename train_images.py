"""Train a ResNet on a folder of photographs, of any size, a folder for each class.

  python train_images.py --images photographs --output output/photographs
  python train_images.py --images photographs --size 224 \\
      --network resnet50 --epochs 90
  python train_images.py

--recipe modern is for more pictures and epochs, --weights starts from a trained network.
Photographs lie in <class>/ or {train,val}/<class>/, and may in test/<class>/ for the final report.
All are looked at before the first epoch, and those that cannot be used are named. Without --images
a small network learns to tell crops of scikit-learn's two photographs apart, in a minute.
"""

import sys

from config import images_config as config
from pipeline.command_line.training import run_training

if __name__ == "__main__":
    options = {argument.partition("=")[0] for argument in sys.argv[1:]}
    sample = not options & {"--images", "--data", "--help", "-h"}
    run_training(__doc__, config.SAMPLE if sample else config.FOLDER)
