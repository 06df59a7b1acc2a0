from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

from benchmarks import evaluation

REAL, GENERATED, WIDTH = 30, 60, 768


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("benchmark") / "results" / "evaluation.json"
    sizes = [f"generated={GENERATED}", f"real={REAL}", f"width={WIDTH}", "images=2", "repeats=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evaluation", *sizes, f"output={output}"])
        evaluation.main()
    return json.loads(output.read_text())


def score(report: dict[str, Any], contender: str, name: str) -> float:
    return report["statistics"][contender]["scores"][name]


def expected_fid() -> float:
    """The formula, by the eigenvalues of the symmetric root's square."""
    generated, real = (
        evaluation.synthetic_features(rows, WIDTH, seed, 0.05 * seed).astype(np.float64)
        for seed, rows in enumerate((GENERATED, REAL))
    )
    values, vectors = np.linalg.eigh(np.cov(generated.T))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    trace_of_root = np.sqrt(np.linalg.eigvalsh(root @ np.cov(real.T) @ root).clip(0)).sum()
    means = np.square(generated.mean(0) - real.mean(0)).sum()
    return means + np.trace(np.cov(generated.T)) + np.trace(np.cov(real.T)) - 2 * trace_of_root


def test_all_contenders_find_the_same_frechet_distance(report):
    assert score(report, "MiFID", "memorization_distance") > 0.1  # nothing is held against it, so that MiFID is FID
    found = {
        contender: scores["scores"][name]
        for contender, scores in report["statistics"].items()
        for name in ("fid", "mifid")
        if name in scores["scores"]
    }
    assert set(found) == {name for name in evaluation.CONTENDERS if "FID" in name}
    assert found == pytest.approx(dict.fromkeys(found, expected_fid()), rel=1e-4)


def test_kid_over_subsets_is_torch_fidelitys(report):
    for name in ("kid", "kid_error"):
        theirs = score(report, "KID, torch-fidelity", name)
        assert score(report, "KID over subsets", name) == pytest.approx(theirs, rel=1e-4)


def test_ratios_are_ours_over_theirs(report):
    statistics = report["statistics"]
    assert [(pair["ours"], pair["theirs"]) for pair in report["ratios"]] == list(evaluation.RIVALS)
    for pair in report["ratios"]:
        for what in ("seconds", "megabytes"):
            expected = statistics[pair["ours"]][what] / statistics[pair["theirs"]][what]
            assert pair[what] == pytest.approx(expected)
            assert expected > 0


def test_both_networks_give_the_same_features_and_have_rates(report):
    extraction = report["extraction"]
    assert extraction["largest_relative_difference"] < 1e-3
    rates = extraction["images_per_second"]
    assert list(rates) == ["efficientnet_lite0", "the plain network, on resized images", "JPEG round trip"]
    assert all(rate > 0 for rate in rates.values())


def test_a_report_says_where_and_how_it_was_made(report):
    assert set(report["versions"]) == {"torch", "numpy", "torchmetrics", "torch-fidelity"}
    assert report["threads"] >= 1
    assert report["command"].startswith("python -m benchmarks.evaluation generated=60 real=30 ")
    assert report["settings"]["width"] == WIDTH
    assert report["device"]
    assert report["date"]


def test_the_time_is_the_median_of_all_which_are_kept(report):
    for found in report["statistics"].values():
        assert len(found["all_seconds"]) == 2
        assert found["seconds"] == pytest.approx(np.mean(found["all_seconds"]))
    for name, rate in report["extraction"]["images_per_second"].items():
        assert rate == pytest.approx(2 / np.mean(report["extraction"]["all_seconds"][name]))


def test_memory_is_what_a_contender_takes_beyond_what_was_there(report):
    matrix = WIDTH**2 * 8 / 1e6
    megabytes = {name: found["megabytes"] for name, found in report["statistics"].items()}
    assert megabytes["KID, all pairs"] < matrix  # it makes none of this size, and the libraries were there before
    for contender in ("FID by running sums", "FID, torchmetrics", "FID, torch-fidelity"):
        assert 2 * matrix < megabytes[contender] < 30 * matrix


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("features=vgg", "unknown features=vgg, choose efficientnet_lite0 or inception"),
        ("real=2", "real=2 is too few, it needs 3 or more"),
        ("repeats=0", "repeats=0 is too few, it needs 1 or more"),
    ],
)
def test_what_cant_be_measured_is_one_line(argument, complaint, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluation", argument])
    with pytest.raises(SystemExit):
        evaluation.main()
    assert capsys.readouterr().err == f"error: {complaint}\n"
