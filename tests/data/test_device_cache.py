from __future__ import annotations

from typing import TYPE_CHECKING

import albumentations as A
import numpy as np
import pytest
import torch
from conftest import make_images, tiny_data, tiny_model, tiny_trainer

from monet_cyclegan.data.pairs import Key
from monet_cyclegan.data.transforms import enlarge
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import to_float

if TYPE_CHECKING:
    from pathlib import Path


def items(data, count: int = 20) -> list[dict[str, torch.Tensor]]:
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    return [dataset[Key(epoch, position)] for epoch in (0, 1) for position in range(count // 2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of several shapes: larger and smaller than load_size, wide and tall."""
    for name in ("a", "b"):
        for seed, size in enumerate([(40, 32), (17, 30), (20, 20)]):
            made = make_images(tmp_path / f"{name}{seed}", 3, size, seed)
            for file in made.iterdir():
                (tmp_path / name).mkdir(exist_ok=True)
                file.rename(tmp_path / name / f"{seed}{file.name}")
    return tmp_path


def test_a_plan_is_looked_up_as_the_square_of_the_image_that_it_names(folder: Path):
    data = tiny_data(folder, cache="device")
    flips = set()
    for plans in items(data):
        for domain, (name, plan) in enumerate(plans.items()):
            index, top, left, flipped = plan.tolist()
            image = enlarge(data.train_sources[domain].load(index), data.load_size)
            square = image[top : top + 16, left : left + 16]
            assert square.shape == (16, 16, 3)
            expected = to_float(torch.from_numpy((square[:, ::-1] if flipped else square).copy()).permute(2, 0, 1))
            batch = data.on_after_batch_transfer({name: plan[None]}, 0)
            assert torch.equal(batch[name][0], expected)
            flips.add(flipped)
    assert flips == {0, 1}


def test_images_and_partners_are_those_of_the_other_caches(tmp_path: Path):
    """Cut to their whole size, images look the same however they get there."""
    for seed, name in enumerate(("a", "b")):
        make_images(tmp_path / name, 5 + seed, (20, 20), seed)
    whole = {"augment": {}, "load_size": 20, "crop_size": 20}
    on_device, in_memory = (tiny_data(tmp_path, cache=cache, **whole) for cache in ("device", "ram"))
    for plans, images in zip(items(on_device), items(in_memory), strict=True):
        shown = on_device.on_after_batch_transfer({name: plan[None] for name, plan in plans.items()}, 0)
        for name in ("a", "b"):
            assert torch.equal(shown[name][0], to_float(images[name]))


def test_every_square_is_as_likely_as_any_other(tmp_path: Path):
    data = tiny_data(tmp_path, cache="device", load_size=18)
    make_images(tmp_path / "a", 3, (18, 18))
    plans = torch.stack([item["a"] for item in items(data, 900)])
    _, counts = np.unique(plans[:, 1].numpy(), return_counts=True)
    assert len(counts) == 3
    assert counts.min() > 250


def test_a_run_trains_and_validates_from_the_device(tmp_path: Path):
    model = tiny_model()
    before = [parameter.clone() for parameter in model.gen_ab.parameters()]
    tiny_trainer(tmp_path, max_epochs=1).fit(model, tiny_data(tmp_path, cache="device", num_workers=2))
    assert any(not torch.equal(old, new) for old, new in zip(before, model.gen_ab.parameters(), strict=True))


def test_other_augmentation_is_refused_by_name_unless_it_is_off(tmp_path: Path):
    with pytest.raises(UserError, match=r"data\.augment\.rotate can't be applied"):
        tiny_data(tmp_path, cache="device", augment={"rotate": A.Rotate(p=0.3)})
    data = tiny_data(tmp_path, cache="device", augment={"rotate": A.Rotate(p=0.0), "flip": A.HorizontalFlip(p=1.0)})
    assert data.flip == 1.0
    assert all(plan[3] == 1 for item in items(data) for plan in item.values())
