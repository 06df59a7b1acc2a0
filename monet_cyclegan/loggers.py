"""Scalars as one CSV file in the run's folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from monet_cyclegan.errors import UserError
from monet_cyclegan.whole_file import whole_file


class CSVLog(Logger):
    """Write ``metrics.csv``, one row a logged step, each on disk at once.

    A resumed run goes on in the same file. Its first row removes those that a run which was cut off had written beyond
    the checkpoint: of Lightning's own logger, started again in the same folder, all earlier rows are lost.

    Args:
        folder: the run's.
        ckpt_path: checkpoint that the run goes on from; without one an earlier file is replaced.
    """

    def __init__(self, folder: Path | str, ckpt_path: Path | str | None = None):
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.resumed = ckpt_path is not None
        self._rows: list[dict[str, str]] | None = None
        self._stale = False  # whether rows in memory couldn't be written
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """Nothing: the run's folder says it."""
        return ""

    @property
    def version(self) -> str:
        """Nothing: the run's folder says it."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Leave them to ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add one row."""
        row = {"step": str(step), **{key: repr(float(value)) for key, value in metrics.items() if key != "epoch"}}
        if "epoch" in metrics:
            row["epoch"] = str(int(metrics["epoch"]))
        whole = self._rows is None or self._stale
        if self._rows is None:
            self._rows = self._rows_before(int(row["step"]))
        self._rows.append(row)
        new_columns = [key for key in row if key not in self._columns]
        self._columns += new_columns
        self._write(self._rows if whole or new_columns else None, row)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Try once more what couldn't be written."""
        if self._stale and self._rows:
            self._write(self._rows, self._rows[-1])

    def _write(self, rows: list[dict[str, str]] | None, row: dict[str, str]) -> None:
        """Write all ``rows``, or append ``row``; on a full disk say so once, and write all of them later."""
        try:
            if rows is not None:
                self._write_all(rows)
            else:
                with self.path.open("a", newline="") as file:
                    csv.DictWriter(file, self._columns).writerow(row)
            self._stale = False
        except (OSError, UserError) as error:
            if not self._stale:
                print(f"{self.path} can't be written ({error}); its rows are kept for the next time", flush=True)
            self._stale = True

    def _rows_before(self, step: int) -> list[dict[str, str]]:
        if not self.resumed or not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if (row.get("step") or "").isdigit() and int(row["step"]) < step]
        self._columns = list(reader.fieldnames or []) if rows else []
        return rows

    def _write_all(self, rows: list[dict[str, str]]) -> None:
        with whole_file(self.path, sync=False) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
