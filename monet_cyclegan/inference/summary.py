"""What is told when many pictures were translated."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from monet_cyclegan.errors import UserError, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from monet_cyclegan.inference.pipeline import Outcome

MOST_LINES = 20


def tell(
    direction: str, outcomes: list[Outcome], seconds: float, others: Counter[str], source: str, target: Path
) -> None:
    """Print what was done, what was lost, and what was skipped and why.

    Raises:
        UserError: nothing could be translated.
    """
    good = [outcome for outcome in outcomes if outcome.error is None]
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if len(outcomes) == 1 and failed:
        raise UserError(str(failed[0].error))
    for outcome in failed[:MOST_LINES]:
        print(f"skipped {outcome.error}", file=sys.stderr)
    if len(failed) > MOST_LINES:
        print(f"skipped {len(failed) - MOST_LINES} more", file=sys.stderr)
    if not good:
        raise UserError(f"none of the {len(outcomes)} images in {source} could be translated")
    done = sum(not outcome.kept for outcome in good)
    where = one_line(str(good[0].target if len(outcomes) == 1 else target))
    rate = f", {done / seconds:.1f} a second" if done > 1 else ""
    print(f"{direction}: {done:,} of {len(outcomes):,} images in {seconds:.1f} s{rate}: {where}")
    if len(good) > done:
        print(f"kept from an earlier run with the same settings: {len(good) - done:,} (again=true makes them anew)")
    notes = [(note, outcome) for outcome in good for note in outcome.notes]
    for note, count in Counter(note for note, _ in notes).most_common():
        first = next(outcome for text, outcome in notes if text == note)
        print(f"{note}: {one_line(first.source)}{f' and {count - 1:,} more' if count > 1 else ''}")
    if others:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(5))
        print(f"files in {one_line(source)} that are no pictures: {sum(others.values()):,} ({kinds})")
