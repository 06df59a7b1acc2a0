"""How much closer a model trained on ``data=synthetic`` comes to the true paintings than the untouched photos are.

python -m benchmarks.synthetic_pairs ckpt=outputs/demo/checkpoints/best.ckpt
"""

from __future__ import annotations

import sys

import numpy as np

from monet_cyclegan.checkpoint import build_generator, load_checkpoint, saved_config
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.data.synthetic import synthetic_domains
from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.translator import Translator


@exit_with_one_line()
def main() -> None:
    """Print the mean absolute errors, in levels of 0 to 255, over the run's held-out pairs."""
    path = parse_key_values(sys.argv[1:], {"ckpt": "outputs/demo/checkpoints/best.ckpt"})["ckpt"]
    checkpoint = load_checkpoint(path)
    data = saved_config(checkpoint)["data"]
    if "scene_seed" not in data:
        raise UserError(f"{path} was not trained on data=synthetic, so there are no true paintings to compare with")
    domains = synthetic_domains(1, 1, data["size"], data["scene_seed"], data["val_count"])
    assert domains.val_a is not None
    assert domains.val_b is not None
    translate = Translator(build_generator(checkpoint))
    untouched, translated = [], []
    for index in range(len(domains.val_a)):
        photo, painting = domains.val_a.load(index), domains.val_b.load(index).astype(float)
        untouched.append(np.abs(photo - painting).mean())
        translated.append(np.abs(translate(photo) - painting).mean())
    ratio, closer = np.mean(translated) / np.mean(untouched), np.mean(np.less(translated, untouched))
    print(f"held-out pairs            {len(untouched)}")
    print(f"photo to true painting    {np.mean(untouched):.1f}")
    print(f"translation to the same   {np.mean(translated):.1f}, a ratio of {ratio:.2f}")
    print(f"closer than the photo     {closer:.0%}")


if __name__ == "__main__":
    main()
