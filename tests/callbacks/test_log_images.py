from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monet_cyclegan.callbacks.log_images import LogImages
from monet_cyclegan.images import image_grid, read_image
from monet_cyclegan.networks.resnet import ResNetGenerator


def pictures(folder):
    return sorted(path.name for path in folder.iterdir())


def test_after_each_epoch_there_is_a_grid_for_each_direction(tmp_path):
    model, data = tiny_model(), tiny_data(tmp_path)
    tiny_trainer(tmp_path, [LogImages(tmp_path / "samples", num_images=2)]).fit(model, data)
    assert pictures(tmp_path / "samples") == [
        "monet_to_photo_epoch0001_batch0000005.png",
        "monet_to_photo_epoch0002_batch0000010.png",
        "photo_to_monet_epoch0001_batch0000005.png",
        "photo_to_monet_epoch0002_batch0000010.png",
    ]
    with torch.no_grad():
        images = model.showcase(*data.fixed_images(2))
    columns = {
        "monet": images["real_b"],
        "as photo": images["fake_a"],
        "monet again": images["rec_b"],
        "identity": images["idt_b"],
    }
    grid = read_image(tmp_path / "samples" / "monet_to_photo_epoch0002_batch0000010.png")
    np.testing.assert_array_equal(grid, image_grid(columns))


def test_within_an_epoch_pictures_come_every_so_many_batches_and_not_twice_at_its_end(tmp_path):
    callback = LogImages(tmp_path / "samples", every_n_batches=2)
    logger = TensorBoardLogger(tmp_path / "board", name="", version="")
    data = tiny_data(tmp_path, count_a=8)  # 6 batches
    tiny_trainer(tmp_path, [callback], max_epochs=1, logger=logger).fit(tiny_model(), data)
    batches = [name.partition("batch")[2] for name in pictures(tmp_path / "samples") if name.startswith("photo")]
    assert batches == ["0000002.png", "0000004.png", "0000006.png"]
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [event.step for event in events.Images("samples/photo_to_monet")] == [2, 4, 6]


@pytest.mark.parametrize(("num_images", "rows"), [(1, 1), (2, 2), (9, 2)])
def test_a_grid_has_a_row_for_each_image_as_far_as_there_are_held_out_ones(tmp_path, num_images, rows):
    callback = LogImages(tmp_path / "samples", num_images=num_images)
    tiny_trainer(tmp_path, [callback], max_epochs=1).fit(tiny_model(), tiny_data(tmp_path))
    grid = read_image(tmp_path / "samples" / "photo_to_monet_epoch0001_batch0000005.png")
    expected = image_grid(
        {title: torch.zeros(rows, 3, 16, 16) for title in ("photo", "as monet", "photo again", "identity")}
    )
    assert grid.shape == expected.shape


def test_a_tensorboard_gets_the_same_pictures(tmp_path):
    logger = TensorBoardLogger(tmp_path / "board", name="", version="")
    callback = LogImages(tmp_path / "samples", num_images=2)
    tiny_trainer(tmp_path, [callback], logger=logger).fit(tiny_model(), tiny_data(tmp_path))
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert sorted(events.Tags()["images"]) == ["samples/monet_to_photo", "samples/photo_to_monet"]
    shown = events.Images("samples/photo_to_monet")
    assert [event.step for event in shown] == [5, 10]
    file = tmp_path / "samples" / "photo_to_monet_epoch0002_batch0000010.png"
    assert (shown[1].height, shown[1].width) == read_image(file).shape[:2]
    (tmp_path / "event.png").write_bytes(shown[1].encoded_image_string)
    np.testing.assert_array_equal(read_image(tmp_path / "event.png"), read_image(file))


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_pictures_change_nothing_about_the_training(tmp_path, ema_decay):
    generator = partial(ResNetGenerator, num_residual_blocks=1, base_channels=2, dropout=0.5)
    weights = []
    for callbacks in ([], [LogImages(tmp_path / "samples", every_n_batches=1)]):
        model = tiny_model(generator=generator, ema_decay=ema_decay)
        tiny_trainer(tmp_path, callbacks).fit(model, tiny_data(tmp_path))
        assert model.gen_ab.training
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*weights)


def test_pictures_are_made_without_dropout_where_there_are_no_averaged_generators_either(tmp_path):
    generator = partial(ResNetGenerator, num_residual_blocks=1, base_channels=2, dropout=0.5)
    model, data = tiny_model(generator=generator, ema_decay=0.0), tiny_data(tmp_path)
    tiny_trainer(tmp_path, [LogImages(tmp_path / "samples")], max_epochs=1).fit(model, data)
    with torch.no_grad():
        images = model.eval().showcase(*data.fixed_images(2))
    columns = {
        "photo": images["real_a"],
        "as monet": images["fake_b"],
        "photo again": images["rec_a"],
        "identity": images["idt_a"],
    }
    grid = read_image(tmp_path / "samples" / "photo_to_monet_epoch0001_batch0000005.png")
    np.testing.assert_array_equal(grid, image_grid(columns))
