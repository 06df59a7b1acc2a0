"""From a trained generator to translated image files."""

from __future__ import annotations

from monet_cyclegan.inference.translator import Outcome, Translator, translate_files

__all__ = ["Outcome", "Translator", "translate_files"]
