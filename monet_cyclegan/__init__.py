"""CycleGANs that turn photos into Monet paintings and back."""

__version__ = "0.1.0"

CHECKPOINT_KEY = "monet_cyclegan"  # under which our checkpoints hold config, overrides and version
CHECKPOINT_FORMAT = 1  # raised when older code can't read what newer code writes
