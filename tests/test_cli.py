from __future__ import annotations

from pathlib import Path

import pytest

from monet_cyclegan.cli import exit_with_one_line, nearest, parse_key_values
from monet_cyclegan.errors import UserError

DEFAULTS = {"output": Path("pictures"), "count": 6, "share": 0.5, "swap": False, "style": "monet"}


def test_without_arguments_the_defaults_hold():
    assert parse_key_values([], DEFAULTS) == DEFAULTS


def test_values_take_the_types_of_their_defaults():
    values = parse_key_values(["output=a=b.png", "count=12", "share=1", "swap=True", "style=7"], DEFAULTS)
    assert values == {"output": Path("a=b.png"), "count": 12, "share": 1.0, "swap": True, "style": "7"}
    assert [type(value) for value in values.values()] == [type(Path()), int, float, bool, str]


def test_the_defaults_are_left_as_they_were():
    parse_key_values(["count=1"], DEFAULTS)
    assert DEFAULTS["count"] == 6


def test_the_last_of_two_values_counts():
    assert parse_key_values(["count=1", "count=2"], DEFAULTS)["count"] == 2


def test_a_misspelt_key_is_answered_with_the_right_one_and_all_keys():
    with pytest.raises(
        UserError, match=r"unknown key 'cuont', did you mean 'count'\? choose from output, count, share"
    ):
        parse_key_values(["cuont=3"], DEFAULTS)


def test_a_key_like_no_other_is_answered_with_all_keys():
    with pytest.raises(UserError, match=r"^unknown key 'xyz'; choose from output, count, share, swap, style$"):
        parse_key_values(["xyz=3"], DEFAULTS)


@pytest.mark.parametrize("argument", ["--help", "12"])
def test_an_argument_without_equals_sign_is_answered_with_the_usage(argument):
    with pytest.raises(UserError, match=rf"'{argument}'.* output=pictures count=6 share=0\.5 swap=False style=monet$"):
        parse_key_values([argument], DEFAULTS)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("count=2.5", "count needs a whole number, not '2.5'"),
        ("count=", "count needs a whole number, not ''"),
        ("share=half", "share needs a number, not 'half'"),
        ("swap=yes", "swap needs true or false, not 'yes'"),
    ],
)
def test_a_value_of_another_type_is_refused(argument, message):
    with pytest.raises(UserError) as error:
        parse_key_values([argument], DEFAULTS)
    assert str(error.value) == message


def test_a_path_may_start_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_key_values(["output=~/x"], DEFAULTS)["output"] == tmp_path / "x"


def test_nearest_finds_a_close_word_or_nothing():
    assert nearest("phtos", ["photos", "paintings"]) == "photos"
    assert nearest("checkpoint", ["photos", "paintings"]) is None


def test_a_user_error_becomes_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as end, exit_with_one_line():
        raise UserError("no such folder: x")
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "error: no such folder: x\n")


def test_ctrl_c_ends_silently_with_status_130(capsys):
    @exit_with_one_line()
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), exit_with_one_line():
        _ = 1 // 0
