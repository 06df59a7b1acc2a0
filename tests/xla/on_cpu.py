"""Makes Lightning take the CPU for a TPU, as torch_xla does with PJRT_DEVICE=CPU; as a program, runs train.py then."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

os.environ["PJRT_DEVICE"] = "CPU"

import lightning.fabric.accelerators.xla as fabric
from lightning.pytorch.accelerators import XLAAccelerator

for accelerator in (fabric.XLAAccelerator, XLAAccelerator):
    accelerator.auto_device_count = staticmethod(lambda: 1)
    accelerator.is_available = staticmethod(lambda: True)

if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.path.insert(0, str(root))
    sys.argv[0] = str(root / "train.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
