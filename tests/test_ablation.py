"""The ablation: real trainings of a few batches on tiny pictures, and what it makes of their scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from conftest import make_images
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from benchmarks import ablation, results
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("recipe", ablation.RECIPES)
def test_each_recipe_is_a_model_that_can_be_built(recipe: str):
    conf = ablation.ROOT / "conf"
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose("train", [*ablation.settings_of(recipe), "model.compile=false", "model.channels_last=false"])
    cfg.model.optimizer.fused = False
    cfg.seed = cfg.model.seed = 0
    model = instantiate(cfg.model)
    assert model.lambda_adv == 1


def test_recipes_are_ranked_by_the_mean_of_their_seeds():
    def row(recipe: str, seed: int, kid: float) -> dict[str, Any]:
        return {"recipe": recipe, "seed": seed, "kid": kid, "mifid": 100 * kid, "seconds": 0.0 if seed else 60.0}

    rows = [row("worse", 0, 0.2), row("better", 0, 0.15), row("better", 1, 0.05), row(ablation.UNTOUCHED, 1, 0.3)]
    assert ablation.table(rows) == [
        ("better (2 seeds)", "KID 0.1000 ± 0.0707, MIFID 10.0 ± 7.1, 30 s"),
        ("worse (1 seed)", "KID 0.2000, MIFID 20.0, 60 s"),
        ("untouched photos", "KID 0.3000, MIFID 30.0"),
    ]


def test_rows_of_another_protocol_are_not_mixed_in(tmp_path: Path):
    path = tmp_path / "rows.json"
    assert ablation.load_rows(path, {"size": 64}) == []
    path.write_text(json.dumps({"protocol": {"size": 64}, "rows": [{"seed": 0}]}))
    assert ablation.load_rows(path, {"size": 64}) == [{"seed": 0}]
    with pytest.raises(UserError, match=r"rows\.json was measured under another protocol, {'size': 64}: give output="):
        ablation.load_rows(path, {"size": 128})


def test_runs_under_other_budgets_do_not_share_a_folder(tmp_path: Path):
    """A run goes on with whatever lies in its folder."""
    budget = ablation.Budget(tmp_path, 64, 256, 256, 800, 4, "cpu")
    others = {"data": tmp_path / "other", "device": "cuda"}
    others |= dict.fromkeys(("size", "load_size", "eval_size", "batches", "batch_size"), 128)
    assert others.keys() == {*ablation.Budget._fields}
    budgets = [budget, *(budget._replace(**{name: value}) for name, value in others.items())]
    assert len({ablation.folder_of(tmp_path, one, "skip", 0) for one in budgets}) == len(budgets)


def test_the_readme_and_the_experiments_say_what_was_measured():
    rows = json.loads((results.FOLDER / "ablation.json").read_text(encoding="utf-8"))["rows"]
    measured = {text.partition(" (")[0]: line.split(", ") for text, line in ablation.table(rows)}
    readme = (ablation.ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for recipe, scores in measured.items():
        (row,) = (line for line in readme if line.startswith(f"| {recipe} |"))
        for score in scores[:2]:  # KID and MiFID
            assert f"| {score.partition(' ')[2]} |" in row
    recipes = {"small_data_monet": "skip, light", "compact_monet": "compact, light", "uvcgan_monet": "UVCGAN"}
    for experiment, recipe in recipes.items():
        text = (ablation.ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
        comment = " ".join(line.lstrip("# ") for line in text.splitlines()[1:4])
        assert f'"{recipe}"' in comment
        assert measured[recipe][0] in comment


def test_an_unknown_recipe_is_refused_with_the_choices():
    with pytest.raises(UserError, match="recipes=nothing: choose some of baseline; "):
        ablation.main(["recipes=nothing"])


@pytest.mark.slow
def test_it_trains_scores_and_shows_recipes_and_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(ablation, "HELD_OUT", {"a": 3, "b": 2})
    monkeypatch.setattr(ablation, "PHOTOS", 2)
    for seed, name in enumerate(("photo_jpg", "monet_jpg")):
        make_images(tmp_path / "data" / name, 5, seed=seed)
    output = tmp_path / "rows.json"
    options = [
        f"data={tmp_path / 'data'}",
        "size=32",
        "load_size=36",
        "eval_size=32",
        "batches=2",
        "seeds=1",
        f"output={output}",
        "workers=1",
    ]
    options.append(f"runs={tmp_path / 'runs'}")
    ablation.main([*options, "recipes=skip"])
    ablation.main([*options, "recipes=skip;compact"])
    rows = json.loads(output.read_text())["rows"]
    assert [row["recipe"] for row in rows] == [ablation.UNTOUCHED, "skip", "compact"]
    assert all(0 < row["mifid"] < 1000 for row in rows)
    assert all(row["seconds"] > 1 for row in rows[1:])
    assert (tmp_path / "runs" / "five_photos_32.png").is_file()
    assert capsys.readouterr().out.count("seed 0: KID") == 2
