"""Observers of a run: what is measured, shown, saved and stopped."""
