"""Views of pictures, against torchvision, timm and analytic values."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from convnext.data.feed import augment as A
from convnext.data.feed.framing import central_view
from convnext.data.feed.mixing import Mixing, cut_mix
from convnext.data.pictures import transforms as T
from convnext.recipe import AugmentRecipe, DataRecipe

PICTURE = torch.randint(0, 256, (3, 61, 83), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_evaluation_view_is_torchvisions() -> None:
    """Short side to size / ratio, bicubic with antialiasing, central crop: the same pixels as torchvision's presets."""
    view = central_view(61, 83, 28, 0.875).picture(PICTURE, "bicubic")
    preset = v2.Compose([v2.Resize(32, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(28)])
    assert T.eval_resize(224, 0.875) == 256
    assert torch.equal(view, preset(PICTURE))


@pytest.mark.parametrize("size", [58, 59, 60, 61])
@pytest.mark.parametrize("width", [80, 81, 82, 83])
def test_the_central_crop_is_torchvisions(size: int, width: int) -> None:
    """With pixels over that are even and odd in number, of a picture that keeps its size."""
    picture = PICTURE[:, :, :width]
    view = central_view(61, width, size, crop_ratio=size / 61)
    assert torch.equal(view.picture(picture, "bicubic"), TF.center_crop(picture, [size, size]))


@pytest.mark.parametrize("name", ["imagenet", "unit", "symmetric"])
def test_normalisation_is_torchvisions(name: str) -> None:
    """(x / 255 - mean) / std in fp32, channels last."""
    mean, std = T.normalization(name, 3)
    ours = T.normalize(PICTURE.unsqueeze(0), mean, std)
    theirs = v2.Normalize(mean, std)(PICTURE.unsqueeze(0).float() / 255)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    if name == "symmetric":
        assert ours.min() >= -1
        assert ours.max() <= 1


def test_gray_and_alpha_have_their_own_normalisation() -> None:
    """One channel takes the colours' average; a fourth is centred."""
    assert T.normalization("imagenet", 1)[0] == pytest.approx((0.449,), abs=1e-3)
    assert T.normalization("imagenet", 4)[0][3] == 0.5


def test_an_augmented_picture_depends_on_its_seed_alone() -> None:
    """The same seed gives the same picture whatever happened before; the surrounding random state is untouched."""
    augment = AugmentRecipe(randaugment="rand-m9-mstd0.5-inc1", erasing=0.5, vertical_flip=0.5)
    transform = A.TrainTransform(DataRecipe(), augment, 32, 3)
    first = transform(PICTURE, 5)
    torch.manual_seed(1)
    random.seed(2)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    second = transform(PICTURE, 5)
    assert torch.equal(first, second)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])  # noqa: NPY002
    assert not torch.equal(first, transform(PICTURE, 6))


def test_random_crops_have_torchvisions_distribution() -> None:
    """Areas of our crops, read off a picture of coordinates, are spread as torchvision's sampler spreads them."""
    ramp = (torch.arange(200).float() * 255 / 199).to(torch.uint8)
    picture = torch.stack([ramp.expand(200, 200), ramp.expand(200, 200).T, torch.zeros(200, 200, dtype=torch.uint8)])
    transform = A.TrainTransform(DataRecipe(), AugmentRecipe(crop_min=0.35, flip=0.0, color_jitter=0.0), 16, 3)
    ours = []
    for seed in range(400):
        crop = transform(picture, seed).float()
        width, height = (float(crop[i].max() - crop[i].min()) / 255 * 16 / 15 for i in (0, 1))
        ours.append(width * height)  # 16 pixels span 15 steps of the ramp
    torch.manual_seed(0)
    boxes = [_box() for _ in range(400)]
    assert np.mean(ours) == pytest.approx(np.mean(boxes), abs=0.04)
    assert min(ours) > 0.25


def test_colour_jitter_is_torchvisions() -> None:
    """Brightness, contrast and saturation, one after the other in any order, where none of them has to be clamped."""
    middle = (PICTURE // 2 + 50).to(torch.uint8)  # 50 to 177
    drawn = random.Random(0)
    for _ in range(20):
        b, c, s = A.jitter_factors(drawn, 0.25)
        steps = [
            partial(TF.adjust_brightness, brightness_factor=b),
            partial(TF.adjust_contrast, contrast_factor=c),
            partial(TF.adjust_saturation, saturation_factor=s),
        ]
        drawn.shuffle(steps)
        theirs = middle.float() / 255
        for step in steps:
            theirs = step(theirs)
        ours = A.color_jitter(middle, b, c, s)
        torch.testing.assert_close(ours.float(), theirs * 255, rtol=0, atol=0.51 + 0.2)  # their luma has four digits


def test_colour_jitter_of_gray_and_at_the_limits() -> None:
    """Gray has no saturation; factors of one change nothing; bright pixels stop at 255."""
    gray = PICTURE[:1]
    assert torch.equal(A.color_jitter(gray, 1.0, 1.0, 0.3), gray)
    assert torch.equal(A.color_jitter(PICTURE, 1.0, 1.0, 1.0), PICTURE)
    assert torch.equal(A.color_jitter(PICTURE, 2.0, 1.0, 1.0), (PICTURE.int() * 2).clamp(max=255).to(torch.uint8))
    colourless = A.color_jitter(PICTURE, 1.0, 1.0, 0.0)
    assert torch.equal(colourless[0], colourless[1])


def test_erasing_does_not_know_the_crop() -> None:
    """Whether a rectangle is erased, and how large the crop is, are not correlated: |r| within four standard errors."""
    ramp = (torch.arange(200).float() * 255 / 199).to(torch.uint8)
    picture = torch.stack([ramp.expand(200, 200), ramp.expand(200, 200).T, torch.zeros(200, 200, dtype=torch.uint8)])
    augment = AugmentRecipe(crop_min=0.2, flip=0.0, color_jitter=0.0, erasing=0.5)
    erased_too = A.TrainTransform(DataRecipe(normalization="unit"), augment, 24, 3)
    plain = A.TrainTransform(DataRecipe(), AugmentRecipe(crop_min=0.2, flip=0.0, color_jitter=0.0), 24, 3)
    areas, erased = [], []
    for seed in range(400):
        crop = plain(picture, seed).float()
        areas.append(float(crop[0].max() - crop[0].min()) * float(crop[1].max() - crop[1].min()))
        erased.append(float((erased_too(picture, seed) * 255 - crop).abs().max() > 1))
    assert 0.4 < np.mean(erased) < 0.6
    assert abs(np.corrcoef(areas, erased)[0, 1]) < 0.2


def test_colour_jitter_does_not_depend_on_the_number_of_threads() -> None:
    """A loader process has one thread, the training process several: the same bits."""
    picture = torch.randint(0, 256, (3, 500, 501), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(A.color_jitter(picture, 1.13, 0.77, 1.31))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_mirrors_come_as_often_as_asked() -> None:
    """A ramp is turned round in half of 400 draws, give or take four standard errors; or always; or never."""
    ramp = torch.arange(40, dtype=torch.uint8).expand(3, 40, 40)
    for asked, low, high in ((0.5, 0.4, 0.6), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
        transform = A.TrainTransform(DataRecipe(), AugmentRecipe(flip=asked, color_jitter=0.0), 8, 3)
        views = [transform(ramp, seed).int() for seed in range(400)]
        turned = sum(bool(v[0, 0, 0] > v[0, 0, -1]) for v in views) / 400
        assert low <= turned <= high


def test_a_box_fits_into_any_picture() -> None:
    """Strips too: the box lies inside, and its aspect is one that is allowed."""
    drawn = random.Random(1)
    for _ in range(2000):
        height, width = drawn.randint(1, 300), drawn.randint(1, 300)
        top, left, h, w = A.random_box(drawn, height, width, 0.2)
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w
        assert h >= 1
        assert w >= 1
        if min(h, w) > 20:
            assert 0.7 < w / h < 1.43


def _box() -> float:
    from torchvision.transforms import RandomResizedCrop

    _, _, h, w = RandomResizedCrop.get_params(PICTURE.new_zeros(3, 200, 200), [0.35, 1.0], [3 / 4, 4 / 3])
    return h * w / 200**2


def test_posterising_to_no_bits_is_black_as_it_used_to_be() -> None:
    """RandAugment of the paper asks for 0 bits now and then; Pillow 13 refuses, older Pillows gave black."""
    image = Image.fromarray(PICTURE.permute(1, 2, 0).numpy())
    transform = A.rand_augment("rand-m10-n1-inc1", 32, (0.5, 0.5, 0.5))
    posterise = [op for op in transform.ops if op.name.startswith("Posterize")]
    assert posterise
    for op in posterise:
        assert np.asarray(op.aug_fn(image, 0)).max() == 0
        assert np.array_equal(np.asarray(op.aug_fn(image, 8)), np.asarray(image))
        assert np.array_equal(np.asarray(op.aug_fn(image, 4)), np.asarray(image) & 0xF0)


def test_randaugment_runs_at_every_strength() -> None:
    """Hundreds of draws of the paper's string, without an error, and they change the picture."""
    augment = AugmentRecipe(randaugment="rand-m9-mstd0.5-inc1", color_jitter=0.0, flip=0.0, crop_min=1.0)
    transform = A.TrainTransform(DataRecipe(), augment, 24, 3)
    plain = A.TrainTransform(DataRecipe(), AugmentRecipe(color_jitter=0.0, flip=0.0, crop_min=1.0), 24, 3)
    changed = 0
    for seed in range(300):
        ours = transform(PICTURE, seed)
        changed += not torch.equal(ours, plain(PICTURE, seed))
    assert changed > 200


def test_erasing_fills_with_normal_noise_after_normalisation() -> None:
    """As timm does it: the share of erased pixels lies between 2 and 33 %, the noise has mean 0 and deviation 1."""
    transform = A.TrainTransform(DataRecipe(), AugmentRecipe(erasing=1.0, color_jitter=0.0), 64, 3)
    flat = torch.full((3, 80, 80), 128, dtype=torch.uint8)
    noise = []
    for seed in range(40):
        out = transform(flat, seed)
        erased = (out != out.flatten(1).mode(1).values.view(3, 1, 1)).any(0)
        assert 0.01 < erased.float().mean() < 0.36
        noise.append(out[:, erased].flatten())
    values = torch.cat(noise)
    assert abs(float(values.mean())) < 0.02
    assert float(values.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_pass_through_all_steps(channels: int) -> None:
    """Gray and RGBA pictures keep their number of channels."""
    augment = AugmentRecipe(color_jitter=0.4, erasing=0.5, randaugment="" if channels == 4 else "rand-m5-n1")
    transform = A.TrainTransform(DataRecipe(), augment, 16, channels)
    picture = torch.randint(0, 256, (channels, 40, 30), dtype=torch.uint8)
    assert transform(picture, 0).shape == (channels, 16, 16)


def test_seeds_of_neighbours_share_nothing() -> None:
    """Nearby (seed, epoch, index) triples give different seeds, the same on every machine."""
    seeds = {T.mix_seed(s, e, i) for s in range(10) for e in range(10) for i in range(100)}
    assert len(seeds) == 10_000
    assert T.mix_seed(1, 2) != T.mix_seed(2, 1)


def test_mixup_is_timms() -> None:
    """With the same share, pictures and soft targets are timm's (batch mode)."""
    from timm.data.mixup import mixup_target

    x = torch.randn(6, 3, 8, 8)
    labels = torch.tensor([0, 1, 2, 3, 1, 0])
    one_hot = torch.nn.functional.one_hot(labels, 4).float() * 0.9 + 0.1 / 4
    mixing = Mixing(mixup=0.8, cutmix=0.0, probability=1.0, seed=3)
    mixed, targets = mixing(x, one_hot, epoch=1, step=2)
    share = float(((mixed - x.flip(0)) / (x - x.flip(0))).median())
    torch.testing.assert_close(mixed, x * share + x.flip(0) * (1 - share), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(targets, mixup_target(labels, 4, share, 0.1), rtol=1e-4, atol=1e-5)


def test_cutmix_counts_the_pixels_that_it_pastes() -> None:
    """The share given back is exactly the share of pixels that were kept, also at the border."""
    x = torch.zeros(4, 1, 20, 30)
    x[:2] = 1.0
    for y, centre in ((0.5, 0.5), (0.0, 0.99)):
        mixed, share = cut_mix(x, 0.6, y, centre)
        assert float(mixed[0].mean()) == pytest.approx(share, abs=1e-6)


def test_mixing_follows_its_beta_distribution_and_seed() -> None:
    """Half of many batches are mixup and half CutMix, shares have Beta's mean and deviation; the seed decides."""
    x = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 32, 32)
    mixing = Mixing(mixup=0.8, cutmix=1.0, probability=1.0, seed=0)
    shares, cuts = [], 0
    for step in range(600):
        mixed, _ = mixing(x, torch.eye(2), epoch=0, step=step)
        values = mixed[1].unique()
        if len(values) == 2 or float(values[0]) in (0.0, 1.0):
            cuts += 1
        else:
            shares.append(float(values[0]))
    assert 240 < cuts < 360
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert np.std(shares) == pytest.approx((1 / (4 * (2 * 0.8 + 1))) ** 0.5, abs=0.04)
    again = Mixing(mixup=0.8, cutmix=1.0, probability=1.0, seed=0)(x, torch.eye(2), epoch=0, step=599)
    assert torch.equal(again[0], mixed)
    off = Mixing(mixup=0.8, cutmix=1.0, probability=0.0, seed=0)(x, torch.eye(2), 0, 0)
    assert torch.equal(off[0], x)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(17, 17), (64, 48), (90, 130)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_resizing_is_torchvisions_and_keeps_channels_last(
    channels: int, size: tuple[int, int], interpolation: str
) -> None:
    """For whole pictures and parts of them, in either layout in memory."""
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, channels), dtype=np.uint8)
    whole = T.from_pixels(pixels)
    for picture in (whole, whole[:, 5:50, 7:80], whole.contiguous()):
        mode = v2.InterpolationMode(interpolation)
        expected = TF.resize(picture, list(size), interpolation=mode, antialias=True)
        found = T.resize(picture, *size, interpolation)
        assert torch.equal(found, expected)
        assert found.permute(1, 2, 0).is_contiguous()
