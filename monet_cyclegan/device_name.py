"""What people call the device that something ran on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def device_name(device: str = "cpu") -> str:
    """The GPU's name, or the processor's, and how many threads torch uses."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    if device != "cpu" and not device.startswith("cpu"):
        return device.partition(":")[0]
    cpus = Path("/proc/cpuinfo")
    models = [line for line in cpus.read_text().splitlines() if "model name" in line] if cpus.is_file() else []
    name = models[0].split(": ")[1] if models else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"
