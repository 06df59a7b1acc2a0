"""CycleGANs that turn photos into Monet paintings and back."""

__version__ = "0.1.0"
