"""All that strangers hand over as pictures, folders, archives and records."""

from __future__ import annotations

import corpus_archives
import corpus_folders
import corpus_outputs
import corpus_pictures
import corpus_records

CASES = [
    *corpus_pictures.CASES,
    *corpus_archives.CASES,
    *corpus_records.CASES,
    *corpus_folders.CASES,
    *corpus_outputs.CASES,
]
