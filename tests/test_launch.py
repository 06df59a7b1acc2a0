"""What a person sees who types something wrong, and what a resumed run starts from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from monet_cyclegan.config import check_types
from monet_cyclegan.errors import Interrupted, UserError
from monet_cyclegan.launch import clear_errors, in_job, launch, run_dir, with_saved_overrides

if TYPE_CHECKING:
    from collections.abc import Callable

    from omegaconf import DictConfig

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


@pytest.fixture
def command_line(monkeypatch, tmp_path, capfd):
    """Run what train.py runs in this process, in an empty folder; gives exit status and the two outputs.

    Instead of training, which would take a while, the job is what a test gives.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "MONET_CYCLEGAN_TRACEBACKS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def run(*arguments: str, job: Callable[[DictConfig], object] = check_types) -> tuple[object, str, str]:
        @hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
        def main(cfg: DictConfig) -> None:
            with in_job(CONF, "train"):
                job(cfg)

        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        status: object = 0
        try:
            launch(main, CONF, "train")
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        # keys and groups
        ("model.lambda_cyle=3", "there is no setting model.lambda_cyle, did you mean model.lambda_cycle?"),
        ("trainer.max_epoch=3", "there is no setting trainer.max_epoch, did you mean trainer.max_epochs?"),
        ("lr=3", "there is no setting lr, did you mean model.lr?"),
        ("zzzzzz=3", "there is no setting zzzzzz"),
        ("generator=unet", "there is no setting generator, did you mean model/generator?"),
        ("model/generatr=unet", "there is no setting model/generatr, did you mean model/generator?"),
        ("~callbacks.bst", "there is no setting callbacks.bst, did you mean callbacks.best?"),
        # options
        (
            "experiment=dem",
            "there is no experiment=dem, did you mean demo? "
            "(choices: compact_monet, demo, demo_search, distill, finetune, kaggle_5h, pretrain, release_monet, "
            "resnet_monet, small_data_monet, unet_monet, uvcgan_monet)",
        ),
        (
            "model/generator=xyz",
            "there is no model/generator=xyz "
            "(choices: compact, resnet, resnet_small, unet, unet_small, vit_unet, vit_unet_small)",
        ),
        (
            "trainer=gpuu",
            "there is no trainer=gpuu, did you mean gpu? (choices: auto, cpu, ddp, gpu, mps, multi_node, tpu)",
        ),
        ("model.generator=unet", "model.generator=unet is not a group of settings, did you mean model/generator=unet?"),
        ("experiment=demo +experiment=unet_monet", "experiment appears more than once in the final defaults list"),
        # syntax
        ("foo", "foo is not an argument: settings are changed by key=value, such as trainer.max_epochs=10"),
        ("tags=[1", "tags=[1 can't be read: special characters in a value need two kinds of quotes, 'tags=\"[1\"'"),
        ("name=a,b", "name=a,b gives several values: add --multirun to try each, or write a list, 'name=[a,b]'"),
        # types
        ("model.lr=abc", "model.lr=abc is not a number"),
        ("model.lr=true", "model.lr=true is not a number"),
        ("trainer.max_epochs=2.5", "trainer.max_epochs=2.5 is not a whole number"),
        ("data.num_workers=-1", "data.num_workers=-1 is not 0 or more"),
        ("data.val_a=-1", "data.val_a=-1 is not 0 or more"),
        ("model.discriminator.spectral_norm=1", "model.discriminator.spectral_norm=1 is not true or false"),
        ("model.optimizer.betas=0.9", "model.optimizer.betas=0.9 is not a list like [0.5, 0.999]"),
        ("model.optimizer.betas=[0.9]", "model.optimizer.betas=[0.9] is not a list like [0.5, 0.999]"),
        ("model.optimizer.betas=[a,b]", "model.optimizer.betas=[a,b] is not a list like [0.5, 0.999]"),
        ("data.names=monet", "data.names=monet is not a group of settings"),
        # what else there is
        ("name=${nothing}", "Interpolation key 'nothing' not found"),
        ("ckpt_path=nowhere.ckpt", "no checkpoint at nowhere.ckpt"),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_status_2(command_line, arguments, line):
    status, out, err = command_line(*arguments.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {line}")
    assert "error: " + line == err.strip() or "object_type" in err


def test_a_misspelt_key_of_another_group_is_found_there(command_line):
    _, _, err = command_line("model/generator=unet", "model.generator.num_level=3")
    assert err == "error: there is no setting model.generator.num_level, did you mean model.generator.num_levels?\n"


@pytest.mark.parametrize("value", ["auto", "[0,1]", "2"])
def test_devices_may_be_a_number_a_word_or_a_list(command_line, value):
    seen = []
    status, _, err = command_line("experiment=demo", f"trainer.devices={value}", job=seen.append)
    assert (status, err, len(seen)) == (0, "", 1)


@pytest.mark.parametrize(
    "argument",
    [
        "data.val_a=0.2",
        "data.val_a=3",
        "data.limit=5",
        "data.augment=null",
        "model.lr=1",
        "model.clip=null",
        "model.lr_disc=null",
        "callbacks.log_images.every_n_batches=null",
        "trainer.max_epochs=-1",
        "trainer.max_time=null",
        "tags=[a,b,c]",
        "name=5",
        "+model.new=3",
        "~callbacks.best",
        "~model.lr",
        "logger=many",
    ],
)
def test_other_values_pass_on_to_the_job(command_line, argument):
    seen = []
    status, _, err = command_line("experiment=demo", argument, job=seen.append)
    assert (status, err, len(seen)) == (0, "", 1)


def test_a_users_mistake_in_the_job_is_one_line_without_comment(command_line):
    def refuse(cfg: object) -> None:
        raise UserError("data.root=x does not exist")

    assert command_line("experiment=demo", job=refuse) == (2, "", "error: data.root=x does not exist\n")


def test_a_missing_value_is_asked_for(command_line):
    assert command_line("data=folders", job=lambda cfg: cfg.data.a) == (
        2,
        "",
        "error: data.a is missing: add data.a=...\n",
    )


def test_a_constructors_refusal_names_the_key(command_line):
    from hydra.utils import instantiate

    status, _, err = command_line(
        "experiment=demo", "model.generator.upsampling=bicubic", job=lambda cfg: instantiate(cfg.model)
    )
    assert status == 2
    assert err.startswith("error: model: ")
    assert "'bicubic'" in err
    assert err.count("\n") == 1


def test_a_defect_keeps_its_traceback_and_nothing_else(command_line):
    status, _, err = command_line("experiment=demo", job=lambda cfg: 1 // 0)
    assert status == 1
    assert err.startswith("Traceback")
    assert err.endswith("ZeroDivisionError: integer division or modulo by zero\n")
    assert "Error executing job" not in err


def test_with_full_errors_a_mistake_keeps_its_traceback(monkeypatch, command_line):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match=r"Could not override 'model\.lrr'"):
        command_line("model.lrr=3")


def test_a_process_started_by_a_run_shows_one_line_too(command_line):
    command_line("experiment=demo")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"  # inherited by the process, as by this second call
    assert command_line("experiment=demo", "model.lr=abc") == (2, "", "error: model.lr=abc is not a number\n")


@pytest.mark.parametrize(("stop", "said"), [(KeyboardInterrupt(), ""), (Interrupted("SIGTERM", "x.ckpt"), "x.ckpt\n")])
def test_a_stop_by_signal_ends_with_status_130(stop, said, capsys):
    with pytest.raises(SystemExit) as end, clear_errors(CONF, "train"):
        raise stop
    assert end.value.code == 130
    assert capsys.readouterr().err.endswith(said)


def test_each_job_of_a_sweep_is_checked(command_line):
    seen = []

    def job(cfg: DictConfig) -> None:
        check_types(cfg)
        seen.append(cfg.seed)

    status, _, _ = command_line("--multirun", "experiment=demo", "seed=3,4", job=job)
    assert (status, seen) == (0, [3, 4])
    status, _, err = command_line("--multirun", "experiment=demo", "seed=5,x", job=job)
    assert (status, seen) == (2, [3, 4, 5])
    assert err.strip().splitlines()[-1] == "error: seed=x is not a number"


def test_help_shows_commands_and_groups_and_runs_nothing(command_line, tmp_path):
    status, out, err = command_line("--help")
    assert (status, err) == (0, "")
    assert "python train.py experiment=demo" in out
    assert "model/generator: compact, resnet, resnet_small, unet, unet_small, vit_unet, vit_unet_small\n" in out
    assert not list(tmp_path.iterdir())


def test_cfg_shows_the_settings_and_runs_nothing(command_line, tmp_path):
    status, out, err = command_line("experiment=demo", "model.lr=0.5", "--cfg", "job")
    assert (status, err) == (0, "")
    assert "\n  lr: 0.5\n" in out
    assert not list(tmp_path.iterdir())


def test_the_script_runs_from_any_folder(tmp_path):
    # A fresh process, as a shell starts it; the mistake is noticed in the job, so everything before it worked.
    arguments = ["experiment=demo", "model.lr=abc", f"hydra.run.dir={tmp_path / 'run'}"]
    environment = {**os.environ, "HYDRA_FULL_ERROR": "0", "MONET_CYCLEGAN_TRACEBACKS": "0"}
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: model.lr=abc is not a number\n")


@pytest.fixture
def save(tmp_path):
    """Write what a run with these overrides leaves, as far as launch.py reads it."""
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    config = {"data": {"names": {"a": "photo", "b": "monet"}}, "model": {"generator": {}}}

    def write(*overrides: str) -> Path:
        mark = {"format": CHECKPOINT_FORMAT, "version": "0", "config": config, "overrides": list(overrides)}
        torch.save({CHECKPOINT_KEY: mark, "state_dict": {}}, path)
        return path

    return write


@pytest.fixture
def saved(save):
    return save("experiment=demo", "model.lr=0.1", "model/generator=unet")


def test_a_resumed_run_takes_the_saved_overrides_and_those_given_now_win(saved, capsys):
    arguments = [f"ckpt_path={saved}", "model.lr=0.2", "seed=3"]
    assert with_saved_overrides(arguments) == ["experiment=demo", "model/generator=unet", *arguments]
    assert capsys.readouterr().out.strip().endswith("experiment=demo model/generator=unet")


def test_a_checkpoints_path_may_be_quoted_and_hold_an_equals_sign(saved, capsys):
    folder = saved.parent.rename(saved.parent.with_name("lr=1"))
    assert with_saved_overrides([f'ckpt_path="{folder / saved.name}"'])[0] == "experiment=demo"


@pytest.mark.parametrize(
    "override",
    [
        "+data.augment.x._target_=os.abort",
        "+data.augment.x={_target_: os.abort}",
        "+data.augment.x=${oc.decode:${data.names.a}}",
        "name=${oc.env:HOME}",
        r"name=$\{oc.env:HOME\}",  # Hydra reads this as the one above
        "hydra.run.dir=/tmp",
        "++hydra.job.env_set.PATH=/tmp",
        "hydra/launcher=joblib",
        "~hydra.run",
        "+trainer@hydra.job=cpu",
        "--config-dir=/tmp",
        "-m",
        "experiment=../../downloads/evil",
        "+model/../../downloads=evil",
        "+/tmp=evil",
        "model/penalties=[../../../downloads/evil]",
        "name=x\x1b[2K",
        "name=x\nerror: no",
        "name",
        "",
    ],
)
def test_a_strangers_checkpoint_can_only_set_values(save, override):
    path = save("seed=3", override)
    with pytest.raises(UserError, match=r"^[^\n]*last\.ckpt asks for [^\n\x1b]+ if you trust it$"):
        with_saved_overrides([f"ckpt_path={path}"])
    given = [f"ckpt_path={path}", override]
    assert with_saved_overrides(given) == ["seed=3", *given]


def test_what_people_write_is_taken_over(save, capsys):
    overrides = [
        "experiment=demo",
        "model/penalties=[r1,zero_centered]",
        "~callbacks.best",
        "~logger",
        "+trainer.detect_anomaly=true",
        "++data.names={a: photo, b: van gogh}",
        "data.root=../data/x.zip",
        "data.a='/home/me/my photos'",
        "model.optimizer.betas=[0.5,0.9]",
        "init_from=/runs/a=1/best.ckpt",
        "name=",
        "hydrant=1",
    ]
    path = save(*overrides)
    assert with_saved_overrides([f"ckpt_path={path}"]) == [*overrides, f"ckpt_path={path}"]


@pytest.mark.parametrize(
    ("given", "dropped"),
    [
        ("logger=csv", {"logger=wandb", "logger.wandb.project=foo"}),
        ("~logger.wandb", {"logger.wandb.project=foo"}),
        ("model/generator=resnet", {"model/generator=unet", "model.generator.num_levels=3"}),
        ("data.names={a: zebra}", set()),
    ],
)
def test_another_group_drops_what_was_set_within_the_old_one(save, command_line, given, dropped):
    overrides = [
        "logger=wandb",
        "logger.wandb.project=foo",
        "model/generator=unet",
        "model.generator.num_levels=3",
        "data.names.b=horse",
    ]
    arguments = [f"ckpt_path={save(*overrides)}", given]
    assert with_saved_overrides(arguments) == [*(o for o in overrides if o not in dropped), *arguments]
    assert command_line(*arguments)[0] == 0


@pytest.mark.parametrize("arguments", [[], ["ckpt_path=null"], ["seed=3", "--multirun"]])
def test_without_a_checkpoint_the_arguments_stay_as_they_are(arguments):
    assert with_saved_overrides(arguments) == arguments


def test_a_resumed_run_writes_into_its_own_folder(saved, command_line, tmp_path):
    seen = []
    assert (
        command_line(f"ckpt_path={saved}", "model.lr=0.3", job=lambda cfg: seen.append((cfg.paths.run, cfg.model.lr)))[
            0
        ]
        == 0
    )
    assert seen == [(str(tmp_path / "run"), 0.3)]


def test_a_checkpoint_from_elsewhere_starts_a_new_folder(tmp_path):
    assert run_dir(None, "new") == run_dir("", "new") == "new"
    assert run_dir(str(tmp_path / "best.ckpt"), "new") == "new"
    assert run_dir("/nowhere/checkpoints/best.ckpt", "new") == "new"


@pytest.fixture
def job(monkeypatch):
    """Sets the variables of a launcher, and no others of one."""
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return lambda **variables: [monkeypatch.setenv(*item) for item in variables.items()]


def test_all_processes_of_a_job_write_into_one_folder_named_by_it(job):
    new = "outputs/unet_monet/2026-11-25_08-00-00"
    assert run_dir(None, new) == new
    job(WORLD_SIZE="16", TORCHELASTIC_RUN_ID="water-lilies")
    assert run_dir(None, new) == "outputs/unet_monet/torchrun_water-lilies"
    job(SLURM_NTASKS="16", SLURM_PROCID="3", SLURM_JOB_ID="4711")
    assert run_dir(None, new) == "outputs/unet_monet/slurm_4711"


def test_a_job_of_one_process_is_an_ordinary_run(job):
    job(WORLD_SIZE="1", TORCHELASTIC_RUN_ID="x", SLURM_NTASKS="1", SLURM_PROCID="0", SLURM_JOB_ID="4711")
    assert run_dir(None, "outputs/a/now") == "outputs/a/now"


def test_in_an_interactive_slurm_job_without_srun_a_run_is_an_ordinary_one(job):
    job(SLURM_NTASKS="16", SLURM_JOB_ID="4711")
    assert run_dir(None, "outputs/a/now") == "outputs/a/now"


def test_torchrun_without_a_name_for_the_run_is_refused(job):
    job(WORLD_SIZE="2", TORCHELASTIC_RUN_ID="none")
    with pytest.raises(UserError, match="torchrun needs --rdzv-id=NAME or --standalone"):
        run_dir(None, "outputs/a/now")


def test_a_resumed_job_of_many_processes_goes_on_in_its_run_s_folder(job, saved, tmp_path):
    job(WORLD_SIZE="16", TORCHELASTIC_RUN_ID="again")
    assert run_dir(str(saved), "outputs/a/now") == str(tmp_path / "run")


def test_keys_come_from_the_env_file_of_the_working_folder(command_line, monkeypatch, tmp_path):
    monkeypatch.setenv("MONET_CYCLEGAN_CACHE", "")
    monkeypatch.delenv("MONET_CYCLEGAN_CACHE")
    (tmp_path / ".env").write_text("MONET_CYCLEGAN_CACHE=/somewhere\n")
    seen = []
    command_line("experiment=demo", job=lambda cfg: seen.append(cfg.paths.cache))
    assert seen == ["/somewhere"]


# ---- experiments in files, and searches ----


def experiment_file(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        text
        or "# @package _global_\ndefaults:\n- /experiment/demo\n- override /model/generator: resnet_small\n\n"
        "name: found\nmodel: {lr: 0.125, generator: {base_channels: 7}}\n"
    )
    return path


@pytest.mark.parametrize("where", ["best.yaml", "outputs/demo_search/best.yaml", "../elsewhere/my best.yaml"])
@pytest.mark.parametrize("absolute", [False, True])
def test_an_experiment_may_be_a_file_anywhere(command_line, tmp_path, where, absolute):
    path = experiment_file(tmp_path / where)
    seen = []
    given = path.resolve() if absolute else where
    status, _, errors = command_line(f"experiment='{given}'", "model.pool_size=3", job=seen.append)
    assert (status, errors) == (0, "")
    (cfg,) = seen
    assert (cfg.name, cfg.model.lr, cfg.model.generator.base_channels, cfg.model.pool_size) == ("found", 0.125, 7, 3)
    assert cfg.model.generator._target_.endswith("ResNetGenerator")
    assert cfg.data._target_.endswith("synthetic")


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "experiment=best.yaml is not a file"), ("a: [1", "experiment=best.yaml is not YAML: while parsing")],
)
def test_an_experiment_file_that_cannot_be_read_is_one_line(command_line, tmp_path, text, said):
    if text:
        experiment_file(tmp_path / "best.yaml", text)
    status, _, errors = command_line("experiment=best.yaml")
    assert status == 2
    assert errors.startswith(f"error: {said}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("where", ["best.yaml", "../elsewhere/my best.yaml"])
def test_a_run_from_an_experiment_file_resumes_from_its_checkpoint_alone(command_line, tmp_path, save, where):
    experiment_file(tmp_path / where)
    seen = []
    command_line(f"experiment='{where}'", job=lambda cfg: seen.extend(HydraConfig.get().overrides.task))
    checkpoint = save(*seen)
    status, _, errors = command_line(f"ckpt_path={checkpoint}", job=lambda cfg: seen.append(cfg.name))
    assert (status, errors, seen[-1]) == (0, "", "found")


@pytest.mark.parametrize("text", ["model: {_target_: os.system}", "name: ${oc.env:HOME}", "defaults: [../../x]"])
def test_a_checkpoint_does_not_load_experiment_files_that_could_run_code(command_line, tmp_path, save, text):
    experiment_file(tmp_path / "best.yaml", text)
    status, _, errors = command_line(f"ckpt_path={save('experiment=best.yaml')}")
    assert status == 2
    assert "asks for experiment=best.yaml, which does more than set values: add it to the command" in errors


def test_a_search_without_multirun_is_refused(command_line):
    status, _, errors = command_line("hparams_search=optuna")
    assert (status, errors) == (2, "error: hparams_search=optuna is a search over many runs: add --multirun, or -m\n")


@pytest.mark.parametrize("shows", ["--cfg=job", "--help"])
def test_a_searchs_settings_can_be_shown(command_line, shows):
    status, output, _ = command_line("hparams_search=demo", "experiment=demo_search", shows)
    assert status == 0
    assert output


@pytest.fixture
def runs(save, tmp_path):
    """Two runs of the demo as they lie after a while: the second is the later one."""
    for age, time in ((100, "2026-01-01_00-00-00"), (0, "2026-01-01_01-00-00")):
        path = tmp_path / "outputs" / "demo" / time / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        save("experiment=demo", f"seed={age + 1}").rename(path)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    return tmp_path / "outputs" / "demo"


def settings(command_line, *arguments):
    seen = []
    status, out, err = command_line(*arguments, job=lambda cfg: seen.append((cfg.ckpt_path, cfg.seed, cfg.paths.run)))
    return (status, out + err), seen


def test_auto_goes_on_with_the_latest_run_of_the_name(command_line, runs, tmp_path):
    (status, said), seen = settings(command_line, "experiment=demo", "ckpt_path=auto")
    last = Path("outputs/demo/2026-01-01_01-00-00/checkpoints/last.ckpt")
    assert (status, seen) == (0, [(str(last), 1, str(last.parents[1].resolve()))]), said
    assert f"ckpt_path=auto: {last}" in said


def test_auto_goes_on_in_a_folder_that_is_given(command_line, runs):
    run = "outputs/demo/2026-01-01_00-00-00"
    _, seen = settings(command_line, "experiment=demo", "ckpt_path=auto", f"hydra.run.dir={run}")
    assert [(path, seed) for path, seed, _ in seen] == [(f"{run}/checkpoints/last.ckpt", 101)]


def test_auto_begins_a_run_where_there_is_none(command_line, runs):
    (status, said), seen = settings(command_line, "experiment=demo", "name=another", "ckpt_path=auto")
    assert status == 0
    assert [(path, seed) for path, seed, _ in seen] == [(None, 0)]
    assert "ckpt_path=auto: no checkpoint in outputs/another, so a new run begins" in said


def test_auto_is_not_for_a_search(command_line):
    (status, said), _ = settings(command_line, "-m", "experiment=demo", "ckpt_path=auto")
    assert (status, said) == (
        2,
        "error: ckpt_path=auto goes on with one run: leave it out of a search, which goes on by itself\n",
    )


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(command_line, runs):
    last = runs / "2026-01-01_01-00-00" / "checkpoints" / "last.ckpt"
    last.with_name("last_before.ckpt").write_bytes(last.read_bytes())
    last.write_bytes(last.read_bytes()[:700])
    for argument in ("auto", str(last)):
        (status, said), seen = settings(command_line, "experiment=demo", f"ckpt_path={argument}")
        assert status == 0, said
        assert Path(seen[0][0]).name == "last_before.ckpt"
        assert Path(seen[0][2]) == last.parents[1]
        assert "can't be gone on with: it is only a part of a checkpoint, or none; going on with the one before" in said
