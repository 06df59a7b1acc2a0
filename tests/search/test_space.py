from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from monet_cyclegan.errors import UserError
from monet_cyclegan.search.space import as_text, described, matching, parse_space, short_name


@pytest.mark.parametrize(
    ("form", "distribution"),
    [
        ("interval(1,8)", FloatDistribution(1.0, 8.0)),
        ("tag(log, interval(1e-5,1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
        ("int(interval(1,8))", IntDistribution(1, 8)),
        ("int(tag(log, interval(4,64)))", IntDistribution(4, 64, log=True)),
        ("range(1,4)", IntDistribution(1, 3)),
        ("range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("range(0,1,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("choice(16,32)", CategoricalDistribution([16, 32])),
        ("choice(false,true)", CategoricalDistribution([False, True])),
        ("choice(0.0,0.5)", CategoricalDistribution([0.0, 0.5])),
        ("choice(resnet,unet)", CategoricalDistribution(["resnet", "unet"])),
        ("choice(none,[r1,zero_centered])", CategoricalDistribution(["none", "[r1,zero_centered]"])),
        ("lsgan,hinge", CategoricalDistribution(["lsgan", "hinge"])),
    ],
)
def test_each_form_spans_what_hydra_says_that_it_does(form, distribution):
    assert parse_space({"key": form}, []).distributions == {"key": distribution}
    assert parse_space({}, [f"key={form}"]).distributions == {"key": distribution}


@pytest.mark.parametrize("form", ["range(1,10,3)", "range(0,1,0.25)", "range(5)", "range(3,0,-1)"])
def test_a_range_has_the_values_that_hydra_would_run_through(form):
    hydras = sorted(OverridesParser.create().parse_override(f"key={form}").sweep_iterator())
    if "-1" in form:
        with pytest.raises(UserError, match="key=range"):
            parse_space({"key": form}, [])
    else:
        assert parse_space({"key": form}, []).grid()["key"] == pytest.approx(hydras)


def test_arguments_win_over_params_and_fix_what_they_name():
    space = parse_space({"a": "choice(1,2)", "b": "interval(0,1)", "c": 3}, ["a=5", "b=choice(7,8)", "c=4", "~d"])
    assert space.fixed == ("a=5", "c=4", "~d")
    assert space.distributions == {"b": CategoricalDistribution([7, 8])}


def test_a_choice_of_one_is_fixed():
    space = parse_space({"a": "choice(unet)", "b": "1,2"}, [])
    assert space.fixed == ("a=unet",)
    assert list(space.distributions) == ["b"]


def test_added_keys_keep_their_plus():
    space = parse_space({}, ["+new=choice(1,2)"])
    assert space.overrides({"+new": 2}) == ["+new=2"]


@pytest.mark.parametrize("form", ["choice('a b','c,d')", "choice([1,2],{x:1})", "choice(1e-05,true)", "a,b"])
def test_values_survive_the_way_into_an_override_and_back(form):
    parser = OverridesParser.create()
    wanted = parser.parse_override(f"key={form}").value().list
    space = parse_space({"key": form}, [])
    texts = [space.overrides({"key": value})[-1] for value in space.distributions["key"].choices]
    for text, element in zip(texts, wanted, strict=True):
        found = parser.parse_override(text).value()
        assert getattr(found, "text", found) == getattr(element, "text", element)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a=interval(1", "can't be read as one of interval"),
        ("a=interval(2,1)", "a=interval(2,1) spans nothing"),
        ("a=range(1,1)", "a=range(1,1) spans nothing: it has no values"),
        ("a=tag(log,interval(0,1))", "spans nothing"),
        ("a=glob(*)", "name the options"),
    ],
)
def test_what_spans_nothing_is_refused(line, said):
    with pytest.raises(UserError) as error:
        parse_space({}, [line])
    assert said in str(error.value)


def test_a_space_with_nothing_in_it_is_refused():
    with pytest.raises(UserError, match=r"leave nothing to search: give one interval\(a,b\)"):
        parse_space({"a": "choice(1,2)"}, ["a=1"])


def test_a_grid_of_an_interval_is_refused():
    space = parse_space({"a": "interval(0,1)"}, [])
    with pytest.raises(UserError, match="a is an interval, which a grid can't exhaust"):
        space.grid()


@pytest.mark.parametrize(
    ("form", "value", "matched"),
    [
        ("choice(0,50)", 50.0, 50),
        ("choice(0,50)", 10, None),
        ("choice(0,1)", False, None),
        ("choice(false,true)", 1, None),
        ("choice(unet,resnet)", "unet", "unet"),
        ("choice(unet,resnet)", None, None),
        ("interval(0,1)", 1, 1.0),
        ("interval(0,1)", 1.5, None),
        ("interval(0,1)", True, None),
        ("tag(log,interval(1e-5,1e-3))", 1e-4, 1e-4),
        ("range(0,7.5,2.5)", 5, 5.0),
        ("range(0,7.5,2.5)", 4.0, None),
        ("int(interval(1,8))", 4.0, 4),
        ("int(interval(1,8))", 4.5, None),
        ("range(1,10,3)", 7, 7),
        ("range(1,10,3)", 8, None),
    ],
)
def test_a_value_is_matched_only_if_it_could_have_been_drawn(form, value, matched):
    found = matching(parse_space({"key": form}, []).distributions["key"], value)
    assert found == matched
    assert type(found) is type(matched)


def test_names_and_values_are_short_on_the_screen():
    assert short_name("model.generator.base_channels") == "base_channels"
    assert short_name("data.augment.color_jitter.p") == "color_jitter.p"
    assert described({"model.lr": 0.000123456, "model/generator": "unet", "x": True, "y": None}) == (
        "lr=0.000123 generator=unet x=true y=null"
    )
    assert as_text(1e-5) == "1e-05"
