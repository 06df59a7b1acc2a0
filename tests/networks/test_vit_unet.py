from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from monet_cyclegan.assembly import assemble
from monet_cyclegan.images import to_float
from monet_cyclegan.inference.strips import StripGenerator
from monet_cyclegan.networks import ViTUNetGenerator
from monet_cyclegan.networks.vit_unet import FourierEmbedding, PixelwiseViT, TransformerBlock

SMALL = {"base_channels": 4, "num_levels": 2, "num_blocks": 2, "embed_dim": 12, "num_heads": 3, "mlp_dim": 20}
# Of bert_selfie2anime-256.py and cyclegan_selfie2anime-256.py in the authors' repository, preset vit-unet-12.
PUBLISHED = {"base_channels": 48, "num_levels": 4, "num_blocks": 12, "embed_dim": 384, "num_heads": 6, "mlp_dim": 1536}


def small(**options: object) -> ViTUNetGenerator:
    return ViTUNetGenerator(**{**SMALL, **options})


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def awakened(generator: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that keep the scale of their input and a transformer that is no identity, so that a mistake shows."""
    draw = torch.Generator().manual_seed(seed)
    for module in generator.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.weight.data.normal_(0, 1.5 / module.weight[0].numel() ** 0.5, generator=draw)
            module.bias.data.normal_(0, 0.3, generator=draw)
        elif isinstance(module, TransformerBlock):
            module.alpha.data.uniform_(0.3, 0.7, generator=draw)
        elif isinstance(module, nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=draw)
            module.bias.data.normal_(0, 0.3, generator=draw)
    return generator.eval()


class PublishedTransformerBlock(nn.Module):
    """Norm, attention and norm, two layers, each sum with the same weight, as the paper's figure of the ViT shows."""

    def __init__(self, features: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        self.hidden, self.out = nn.Linear(features, hidden), nn.Linear(hidden, features)
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm_1(x)
        x = x + self.alpha * self.attention(y, y, y)[0]
        return x + self.alpha * self.out(F.gelu(self.hidden(self.norm_2(x))))


class PublishedGenerator(nn.Module):
    """The network as the paper's §3.1 and appendix describe it, level by level, its ViT from torch's own parts."""

    def __init__(self, features: list[int], blocks: int, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, features[0], 3, padding=1)
        above = [features[0], *features[:-1]]
        self.down_1 = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(above, features, strict=True))
        self.down_2 = nn.ModuleList(nn.Conv2d(o, o, 3, padding=1) for o in features)
        self.halve = nn.ModuleList(nn.Conv2d(o, o, 2, stride=2) for o in features)
        self.frequencies = nn.Linear(2, dim)
        self.tokens_in, self.tokens_out = nn.Linear(dim + features[-1], dim), nn.Linear(dim, features[-1])
        self.blocks = nn.ModuleList(PublishedTransformerBlock(dim, heads, hidden) for _ in range(blocks))
        self.enlarge = nn.ModuleList(nn.Conv2d(o, o, 3, padding=1) for o in features)
        self.up_1 = nn.ModuleList(nn.Conv2d(2 * o, o, 3, padding=1) for o in features)
        self.up_2 = nn.ModuleList(nn.Conv2d(o, i, 3, padding=1) for i, o in zip(above, features, strict=True))
        self.last = nn.Conv2d(features[0], 3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        def step(convolution: nn.Module, x: torch.Tensor) -> torch.Tensor:
            return F.leaky_relu(convolution(F.instance_norm(x)), 0.01)

        x, kept = F.leaky_relu(self.first(images), 0.01), []
        for one, two, halve in zip(self.down_1, self.down_2, self.halve, strict=True):
            kept.append(step(two, step(one, x)))
            x = halve(kept[-1])
        n, c, h, w = x.shape
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        places = torch.sin(self.frequencies(torch.stack([rows.flatten(), columns.flatten()], dim=1)))
        tokens = self.tokens_in(torch.cat([places.repeat(n, 1, 1), x.reshape(n, c, h * w).permute(0, 2, 1)], dim=2))
        for block in self.blocks:
            tokens = block(tokens)
        x = self.tokens_out(tokens).permute(0, 2, 1).reshape(n, c, h, w)
        for level in reversed(range(len(kept))):
            doubled = self.enlarge[level](x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
            x = step(self.up_2[level], step(self.up_1[level], torch.cat([doubled, kept[level]], dim=1)))
        return torch.tanh(self.last(x))


def take_over(published: PublishedGenerator, ours: ViTUNetGenerator) -> None:
    """Give ours the weights of the other."""
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (published.first, ours.first[0]),
        (published.last, ours.last),
        (published.frequencies, ours.transformer.embedding.waves),
    ]
    for level in range(len(published.halve)):
        pairs += [(published.down_1[level], ours.encoder[level][1]), (published.down_2[level], ours.encoder[level][4])]
        pairs += [(published.halve[level], ours.down[level]), (published.enlarge[level], ours.up[level][1])]
        pairs += [(published.up_1[level], ours.decoder[level][1]), (published.up_2[level], ours.decoder[level][4])]
    for theirs, our in zip(published.blocks, ours.transformer.blocks, strict=True):
        our.alpha.data.copy_(theirs.alpha)
        our.attention[1].enter.weight.data.copy_(theirs.attention.in_proj_weight)
        our.attention[1].enter.bias.data.copy_(theirs.attention.in_proj_bias)
        pairs += [(theirs.attention.out_proj, our.attention[1].leave), (theirs.norm_1, our.attention[0])]
        pairs += [(theirs.norm_2, our.mlp[0]), (theirs.hidden, our.mlp[1]), (theirs.out, our.mlp[3])]
    for linear, of_a_pixel in (
        (published.tokens_in, ours.transformer.enter),
        (published.tokens_out, ours.transformer.leave),
    ):
        of_a_pixel.weight.data.copy_(linear.weight[:, :, None, None])
        of_a_pixel.bias.data.copy_(linear.bias)
    for theirs_layer, our_layer in pairs:
        our_layer.load_state_dict(theirs_layer.state_dict())


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_it_computes_what_the_published_network_with_the_same_weights_does() -> None:
    published, ours = PublishedGenerator([4, 8], blocks=2, dim=12, heads=3, hidden=20), small()
    awakened(published)
    for index, block in enumerate(published.blocks):
        block.alpha.data.fill_(0.5 + index)
        block.attention.in_proj_weight.data.normal_(generator=torch.Generator().manual_seed(index))
        block.attention.in_proj_bias.data.normal_(generator=torch.Generator().manual_seed(index))
    take_over(published, ours)
    images = pictures(2, 3, 16, 24)
    expected = published(images)
    assert expected.std() > 0.2
    torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-4)


def test_the_default_is_the_published_size_by_a_count_of_its_layers() -> None:
    convolutions = [(3, 48, 9), (48, 3, 1)]
    for above, here in ((48, 48), (48, 96), (96, 192), (192, 384)):
        convolutions += [(above, here, 9), (here, here, 9), (here, here, 4)]  # two of a block, one of 2x2 that halves
        convolutions += [(here, here, 9), (2 * here, here, 9), (here, above, 9)]
    block = [(384, 3 * 384), (384, 384), (384, 1536), (1536, 384)]
    linear = [(2, 384), (768, 384), (384, 384), *12 * block]
    weights = sum(i * o * k + o for i, o, k in convolutions) + sum(i * o + o for i, o in linear)
    norms_and_alpha = 12 * (2 * 2 * 384 + 1)
    with torch.device("meta"):
        assert count(ViTUNetGenerator()) == weights + norms_and_alpha == 31_360_239
        assert count(PublishedGenerator([48, 96, 192, 384], 12, 384, 6, 1536)) == 31_360_239


def test_the_config_of_the_published_size_has_the_published_numbers(pytestconfig: pytest.Config) -> None:
    text = (pytestconfig.rootpath / "conf/model/generator/vit_unet.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    assert {name: config[name] for name in PUBLISHED} == PUBLISHED
    assert (config["norm"], config["upsampling"]) == ("instance", "resize")


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_the_translation_has_the_size_of_the_image_and_values_in_range(upsampling: str, norm: str) -> None:
    torch.manual_seed(0)
    generator = small(upsampling=upsampling, norm=norm)
    generator.last.weight.data.mul_(1e4)  # drives the output into saturation
    for height, width in [(4, 4), (4, 12), (20, 8), (32, 32)]:
        output = generator(pictures(2, 3, height, width))
        assert output.shape == (2, 3, height, width)
        assert output.abs().max() <= 1
        assert output.isfinite().all()


def test_published_levels_take_16_pixels_and_more() -> None:
    torch.manual_seed(0)
    generator = small(num_levels=4, base_channels=2)
    assert generator.size_multiple == 16
    for height, width in ((16, 16), (16, 48), (80, 32)):
        assert generator(pictures(1, 3, height, width)).shape == (1, 3, height, width)


def test_an_image_is_translated_alike_alone_and_beside_others() -> None:
    generator, images = awakened(small()), pictures(3, 3, 16, 24)
    alone = torch.cat([generator(image) for image in images.split(1)])
    torch.testing.assert_close(generator(images), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_gradients_reach_all_parameters_once_the_transformer_is_no_identity(upsampling: str, norm: str) -> None:
    generator = awakened(small(upsampling=upsampling, norm=norm)).train()
    generator(pictures(1, 3, 16, 16)).square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_transformer_starts_as_the_identity_and_learns_first_to_be_another() -> None:
    torch.manual_seed(0)
    transformer = PixelwiseViT(8, num_blocks=3, dim=12, num_heads=3, mlp_dim=20)
    tokens = torch.randn(2, 5, 12)
    assert torch.equal(transformer.blocks(tokens), tokens)
    transformer.blocks(tokens).square().mean().backward()
    for block in transformer.blocks:
        assert block.alpha.grad.any()
        assert not block.mlp[1].weight.grad.any()


def test_a_position_is_the_sine_of_a_map_of_where_it_lies_between_the_borders() -> None:
    embedding = FourierEmbedding(2)
    embedding.waves.weight.data = torch.tensor([[1.0, 10.0], [0.5, 0.0]])
    embedding.waves.bias.data = torch.tensor([0.25, 0.0])
    rows, columns = (-1, 0, 1), (-1, 1)
    expected = [
        [[math.sin(row + 10 * column + 0.25) for column in columns] for row in rows],
        [[math.sin(0.5 * row) for _ in columns] for row in rows],
    ]
    torch.testing.assert_close(embedding(3, 2), torch.tensor(expected))
    torch.testing.assert_close(embedding(1, 1), torch.tensor([[[math.sin(0.25)]], [[0.0]]]))  # it is in the middle


def test_borders_are_at_the_same_position_in_images_of_all_sizes() -> None:
    embedding = FourierEmbedding(5)
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(embedding(4, 7)[:, row, column], embedding(9, 3)[:, row, column])


def test_neighbours_keep_positions_of_their_own_in_mixed_precision() -> None:
    embedding = FourierEmbedding(4)
    embedding.waves.weight.data.fill_(1)
    with torch.autocast("cpu", torch.bfloat16):
        places = embedding(1, 2000)
    assert places.dtype == torch.float32
    assert len(places.flatten(1).unique(dim=1).T) == 2000


def test_each_pixel_sees_the_whole_image() -> None:
    generator, images = awakened(small(norm="none")), pictures(1, 3, 32, 32)
    other = images.clone()
    other[..., -1, -1] *= -1
    assert (generator(other) - generator(images))[..., 0, 0].abs().max() > 1e-7
    for block in generator.transformer.blocks:
        block.alpha.data.zero_()
    assert torch.equal(generator(other)[..., 0, 0], generator(images)[..., 0, 0])


def test_weights_start_as_published() -> None:
    torch.manual_seed(0)
    generator = small(base_channels=16, embed_dim=96, mlp_dim=192)
    for name, layer in generator.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert not layer.bias.any(), name
            if not name.endswith("attention.1.enter") and layer.weight.numel() > 500:
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15), name
    bound = (6 / (4 * 96)) ** 0.5  # Glorot and Bengio's, as torch's attention begins with
    enter = generator.transformer.blocks[0].attention[1].enter.weight
    assert 0.99 * bound < enter.abs().max() <= bound


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_without_a_norm_the_first_picture_is_neither_grey_nor_saturated(upsampling: str) -> None:
    torch.manual_seed(0)
    generator = ViTUNetGenerator(**{**SMALL, "base_channels": 16, "num_levels": 4}, norm="none", upsampling=upsampling)
    with torch.no_grad():
        assert 0.02 < generator(torch.randn(2, 3, 64, 64)).std() < 0.6


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("rows", [3, 1000])
def test_in_strips_it_is_the_same(upsampling: str, rows: int) -> None:
    generator = awakened(small(upsampling=upsampling))
    images = (torch.rand(1, 3, 40, 24, generator=torch.Generator().manual_seed(1)) * 255).to(torch.uint8)
    with torch.inference_mode():
        expected = generator(to_float(images))
    assert expected.std() > 0.2
    strips = StripGenerator(generator)
    found = torch.cat(list(strips.strips(images, "32-true", rows * 24)), dim=2)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    # The transformer alone is one step; what is around it is computed by rows.
    assert strips.plan.peak < sum(strips.network.size.values()) / 2


def test_it_is_rebuilt_of_plain_settings_and_weights() -> None:
    source = awakened(small())
    config = {"_target_": "monet_cyclegan.networks.vit_unet.ViTUNetGenerator", **SMALL, "norm": "instance"}
    rebuilt = assemble(config, source.state_dict())
    images = pictures(1, 3, 16, 16)
    assert torch.equal(rebuilt(images), source(images))


def test_a_floor_of_the_variance_keeps_what_has_no_contrast_from_being_blown_up() -> None:
    torch.manual_seed(0)
    plain, floored = small(), small(norm_eps=0.1)
    floored.load_state_dict(plain.state_dict())
    night = -0.9 + 0.001 * torch.randn(1, 3, 32, 32)
    assert floored(night).std() < 0.2 * plain(night).std()
    assert {layer.eps for layer in floored.modules() if isinstance(layer, nn.InstanceNorm2d)} == {0.1}


@pytest.mark.parametrize(("height", "width"), [(4, 6), (6, 4), (0, 4)])
def test_a_size_that_is_no_multiple_of_its_own_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"images of {height}x{width} pixels: height and width must be"):
        small()(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "unknown norm 'batch': choose 'instance' or 'none'"),
        ({"upsampling": "bilinear"}, "unknown upsampling 'bilinear': choose 'transposed' or 'resize'"),
        ({"embed_dim": 10}, "embed_dim must be a multiple of num_heads=3, got 10"),
        *(({name: 0}, f"{name} must be at least 1, got 0") for name in SMALL),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
