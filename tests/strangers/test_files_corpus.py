from __future__ import annotations

import pytest
from cases import Case, mistakes, run_case
from corpus_files import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.door} {case.name}")
def test_what_a_stranger_hands_over_is_read_or_named_with_the_reason(case: Case, tmp_path):
    assert mistakes(case, run_case(case, tmp_path)) == []


def test_there_are_many_cases_and_each_has_a_name_of_its_own():
    assert len(CASES) >= 190
    assert len({(case.door, case.name) for case in CASES}) == len(CASES)
    assert {case.result for case in CASES} == {"read", "skipped", "refused"}
