"""From a trained generator to translated image files."""

from __future__ import annotations

from monet_cyclegan.inference.pipeline import Outcome, translate_files
from monet_cyclegan.inference.translator import Translator

__all__ = ["Outcome", "Translator", "translate_files"]
