"""Which devices multiply bfloat16 in hardware; elsewhere it is slower than float32."""

from __future__ import annotations

import torch

PRECISIONS = ("32-true", "bf16-mixed")  # 16-mixed would clip scaled gradients, bf16-true would round small steps away


def multiplies_bfloat16(device_type: str) -> bool:
    """Whether this machine's device of a type ("cpu", "cuda", ...) has instructions for it."""
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device_type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def best_precision(device_type: str) -> str:
    """The faster one of `PRECISIONS`."""
    return "bf16-mixed" if multiplies_bfloat16(device_type) else "32-true"
