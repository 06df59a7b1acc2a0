"""What a CycleGAN learns from: where images lie, how they become batches, and what a data set looks like."""
