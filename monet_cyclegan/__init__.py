"""CycleGANs that turn photos into Monet paintings and back."""
