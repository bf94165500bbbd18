"""The weights that others published for the models of our table: what they are, their licence, their accuracy.

`download` knows where they lie and fetches them. The accuracies are the publishers' own, at the size and crop given
here; those of the "official" ones stand in the paper (Tables 1 and 2) or in its successor's repository, timm's in its
model cards. None is a measurement of ours. All were trained on pictures with the ImageNet mean and deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

_IN1K = "ImageNet-1k"
_IN12K = "ImageNet-12k, then ImageNet-1k"
_IN22K = "ImageNet-22k, then ImageNet-1k"
_FCMAE = "masked autoencoder on ImageNet-1k, then ImageNet-1k"
_FCMAE22 = "masked autoencoder on ImageNet-1k, then ImageNet-22k, then ImageNet-1k"

APACHE = "Apache-2.0"
MIT = "MIT"
MIT_TIMM = "Apache-2.0 as repackaged by timm (MIT from the paper's authors)"
BSD = "BSD-3-Clause"
CC_NC = "CC-BY-NC-4.0"


def allows_commerce(licence: str) -> bool:
    """Whether a licence allows commercial use, from its name; one that is not known does not."""
    name = licence.lower()
    return name.startswith(("apache", "mit", "bsd", "cc0", "cc-by-4", "cc-by-sa")) and "-nc" not in name


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that somebody published.

    Attributes:
        model: the model of our table that they are for.
        trained_on: the data, in order.
        licence: the licence that the publisher gives.
        size: side of the evaluation pictures, pixels.
        crop_ratio: share of the short side that the central crop keeps.
        interpolation: how the pictures are resized.
        squash: the whole picture is squeezed into the square instead of cropped.
        top1: published ImageNet-1k accuracy at that size, percent; None where we know of none.
        classes: size of the head.
    """

    model: str
    trained_on: str
    licence: str
    size: int = 224
    crop_ratio: float = 0.875
    interpolation: str = "bicubic"
    squash: bool = False
    top1: float | None = None
    classes: int = 1000

    @property
    def commercial(self) -> bool:
        """Whether the licence allows commercial use."""
        return allows_commerce(self.licence)


_TIMM_V1 = {  # size to tag to published top-1
    "atto": {"d2_in1k": 75.664},
    "femto": {"d1_in1k": 77.454},
    "pico": {"d1_in1k": 79.526},
    "nano": {"in12k_ft_in1k": 82.282, "d1h_in1k": 80.768},
    "tiny": {
        "in12k_ft_in1k": 84.186, "fb_in22k_ft_in1k": 82.898, "in12k_ft_in1k_384": 85.118,
        "fb_in22k_ft_in1k_384": 84.084, "fb_in1k": 82.066,
    },
    "small": {
        "in12k_ft_in1k": 85.174, "fb_in22k_ft_in1k": 84.562, "in12k_ft_in1k_384": 86.182,
        "fb_in22k_ft_in1k_384": 85.778, "fb_in1k": 83.142,
    },
    "base": {"fb_in22k_ft_in1k": 85.822, "fb_in22k_ft_in1k_384": 86.796, "fb_in1k": 83.82},
    "large": {"fb_in22k_ft_in1k": 86.636, "fb_in22k_ft_in1k_384": 87.476, "fb_in1k": 84.282},
    "xlarge": {"fb_in22k_ft_in1k": 87.002, "fb_in22k_ft_in1k_384": 87.75},
}  # fmt: skip
_TIMM_V2 = {  # the same for ConvNeXt V2
    "atto": {"fcmae_ft_in1k": 76.664},
    "femto": {"fcmae_ft_in1k": 78.488},
    "pico": {"fcmae_ft_in1k": 80.304},
    "nano": {"fcmae_ft_in1k": 81.83, "fcmae_ft_in22k_in1k": 82.03, "fcmae_ft_in22k_in1k_384": 83.37},
    "tiny": {"fcmae_ft_in1k": 82.92, "fcmae_ft_in22k_in1k": 83.894, "fcmae_ft_in22k_in1k_384": 85.112},
    "base": {"fcmae_ft_in1k": 84.874, "fcmae_ft_in22k_in1k": 86.74, "fcmae_ft_in22k_in1k_384": 87.646},
    "large": {"fcmae_ft_in1k": 85.742, "fcmae_ft_in22k_in1k": 87.26, "fcmae_ft_in22k_in1k_384": 88.196},
    "huge": {"fcmae_ft_in1k": 86.256, "fcmae_ft_in22k_in1k_384": 88.668, "fcmae_ft_in22k_in1k_512": 88.848},
}


def _timm() -> dict[str, PublishedWeights]:
    found = {}
    for size, tags in _TIMM_V1.items():
        for tag, top1 in tags.items():
            data = _IN22K if "in22k" in tag else _IN12K if "in12k" in tag else _IN1K
            large = tag.endswith("384")
            crop = 1.0 if large else 0.95 if "in12k" in tag or tag == "d1h_in1k" else 0.875
            licence = MIT_TIMM if tag.startswith("fb_") else APACHE
            found[f"timm:convnext_{size}.{tag}"] = PublishedWeights(
                f"convnext_{size}", data, licence, 384 if large else 224, crop, squash=large, top1=top1
            )
    for size, tags in _TIMM_V2.items():
        v2 = f"convnextv2_{size}"
        for tag, top1 in tags.items():
            data = _FCMAE22 if "in22k" in tag else _FCMAE
            side = int(tag[-3:]) if tag[-3:].isdigit() else 224
            crop = 1.0 if side > 224 else 0.875
            found[f"timm:{v2}.{tag}"] = PublishedWeights(v2, data, CC_NC, side, crop, squash=side > 224, top1=top1)
    return found


def _official() -> dict[str, PublishedWeights]:
    found: dict[str, PublishedWeights] = {}

    def add(model: str, file: str, data: str, licence: str, size: int, top1: float | None, classes: int = 1000) -> None:
        crop = 1.0 if size >= 384 else 0.875
        found[f"official:{file}"] = PublishedWeights(
            model, data, licence, size, crop, squash=size >= 384, top1=top1, classes=classes
        )

    table1 = {  # 1k at 224, 1k at 384, 22k at 224, 22k at 384
        "tiny": (82.1, None, 82.9, 84.1), "small": (83.1, None, 84.6, 85.8), "base": (83.8, 85.1, 85.8, 86.8),
        "large": (84.3, 85.5, 86.6, 87.5), "xlarge": (None, None, 87.0, 87.8),
    }  # fmt: skip
    for size, (in1k, in1k_384, in22k, in22k_384) in table1.items():
        model, ema = f"convnext_{size}", "_ema" if size == "xlarge" else ""
        add(model, f"{model}_22k_1k_224{ema}", _IN22K, MIT, 224, in22k)
        add(model, f"{model}_22k_1k_384{ema}", _IN22K, MIT, 384, in22k_384)
        if in1k is not None:
            add(model, f"{model}_1k_224_ema", _IN1K, MIT, 224, in1k)
        if in1k_384 is not None:
            add(model, f"{model}_1k_384", _IN1K, MIT, 384, in1k_384)
        add(model, f"{model}_22k_224", "ImageNet-22k", MIT, 224, None, 21841)
    for size, accuracy in {"small": 79.7, "base": 82.0, "large": 82.6}.items():  # Table 2
        add(f"convnext_isotropic_{size}", f"convnext_iso_{size}_1k_224_ema", _IN1K, MIT, 224, accuracy)
    v2 = {  # FCMAE then 1k at 224; FCMAE, 22k, 1k at 224, 384, 512
        "atto": (76.7, None, None, None), "femto": (78.5, None, None, None), "pico": (80.3, None, None, None),
        "nano": (81.9, 82.1, 83.4, None), "tiny": (83.0, 83.9, 85.1, None), "base": (84.9, 86.8, 87.7, None),
        "large": (85.8, 87.3, 88.2, None), "huge": (86.3, None, 88.7, 88.9),
    }  # fmt: skip
    for size, (fine_tuned, *from_22k) in v2.items():
        model = f"convnextv2_{size}"
        add(model, f"{model}_1k_224_ema", _FCMAE, CC_NC, 224, fine_tuned)
        for side, top1 in zip((224, 384, 512), from_22k, strict=True):
            if top1 is not None:
                add(model, f"{model}_22k_{side}_ema", _FCMAE22, CC_NC, side, top1)
    return found


def _torchvision() -> dict[str, PublishedWeights]:
    rows = {"tiny": (82.52, 236), "small": (83.616, 230), "base": (84.062, 232), "large": (84.414, 232)}
    return {
        f"torchvision:convnext_{size}": PublishedWeights(
            f"convnext_{size}", _IN1K, BSD, 224, 224 / resize, "bilinear", top1=top1
        )
        for size, (top1, resize) in rows.items()
    }


PUBLISHED: dict[str, PublishedWeights] = _timm() | _official() | _torchvision()
"""Entry, as the user writes it, to what it is. "official" entries are of the papers' own repositories."""


def starts_for(model: str) -> tuple[str, ...]:
    """Entries to start fine-tuning a model from, at 224 pixels, the best general-purpose one first: those that saw more
    than ImageNet-1k before the others, timm's before the official ones before torchvision's.
    """
    data = [_FCMAE22, _IN12K, _IN22K, _FCMAE, _IN1K]
    places = ("timm", "official", "torchvision")
    found = [e for e, w in PUBLISHED.items() if w.model == model and w.size == 224 and w.classes == 1000]
    return tuple(sorted(found, key=lambda e: (data.index(PUBLISHED[e].trained_on), places.index(e.partition(":")[0]))))
