"""The table of baselines: those of timm's networks that the paper and the report compare ConvNeXt with.

A test recomputes every number.
"""

from __future__ import annotations

from dataclasses import dataclass

TIMM = "timm:"
"""What the names of timm's networks, and of weights on its hub, begin with."""


@dataclass(frozen=True)
class BaselineSpec:
    """A baseline of the tables.

    Attributes:
        model: the name in timm.
        paper: its name in the paper or the report.
        size: side of the pictures at which its figures are published, pixels.
        params: number of parameters with 1000 classes and 3 input channels.
        gmacs: billions of multiply-accumulates for one picture of that size.
        tag: timm's name of the weights that it takes by default; "" where it has none.
    """

    model: str
    paper: str
    size: int
    params: int
    gmacs: float
    tag: str = ""

    @property
    def pretrained(self) -> tuple[str, ...]:
        """The entry of its published weights, if there are any."""
        return (f"{TIMM}{self.model}.{self.tag}",) if self.tag else ()


BASELINES: dict[str, BaselineSpec] = {
    TIMM + spec.model: spec
    for spec in (
        BaselineSpec("resnet18", "ResNet18", 224, 11_689_512, 1.81, "a1_in1k"),
        BaselineSpec("resnet50", "ResNet-50", 224, 25_557_032, 4.09, "a1_in1k"),
        BaselineSpec("resnet200", "ResNet-200", 224, 64_673_832, 15.01),
        BaselineSpec("regnety_160", "RegNetY-16G", 224, 83_590_140, 15.91, "sw_in12k_ft_in1k"),
        BaselineSpec("tf_efficientnet_b7", "EffNet-B7", 600, 66_347_960, 37.75, "ns_jft_in1k"),
        BaselineSpec("tf_efficientnetv2_l", "EffNetV2-L", 480, 118_515_272, 56.08, "in21k_ft_in1k"),
        BaselineSpec("tf_efficientnetv2_xl", "EffNetV2-XL", 480, 208_119_808, 82.05, "in21k_ft_in1k"),
        BaselineSpec("deit_small_patch16_224", "DeiT-S", 224, 22_050_664, 4.60, "fb_in1k"),
        BaselineSpec("deit_base_patch16_224", "DeiT-B", 224, 86_567_656, 17.56, "fb_in1k"),
        BaselineSpec("vit_small_patch16_224", "ViT-S", 224, 22_050_664, 4.60, "augreg_in21k_ft_in1k"),
        BaselineSpec("vit_base_patch16_224", "ViT-B", 224, 86_567_656, 17.56, "augreg2_in21k_ft_in1k"),
        BaselineSpec("vit_large_patch16_224", "ViT-L", 224, 304_326_632, 61.55, "augreg_in21k_ft_in1k"),
        BaselineSpec("vit_base_patch16_384", "ViT-B/16", 384, 86_859_496, 55.48, "augreg_in21k_ft_in1k"),
        BaselineSpec("vit_large_patch16_384", "ViT-L/16", 384, 304_715_752, 191.07, "augreg_in21k_ft_in1k"),
        BaselineSpec("swin_tiny_patch4_window7_224", "Swin-T", 224, 28_288_354, 4.49, "ms_in1k"),
        BaselineSpec("swin_small_patch4_window7_224", "Swin-S", 224, 49_606_258, 8.74, "ms_in22k_ft_in1k"),
        BaselineSpec("swin_base_patch4_window7_224", "Swin-B", 224, 87_768_224, 15.43, "ms_in22k_ft_in1k"),
        BaselineSpec("swin_base_patch4_window12_384", "Swin-B", 384, 87_903_584, 47.08, "ms_in22k_ft_in1k"),
        BaselineSpec("swin_large_patch4_window7_224", "Swin-L", 224, 196_532_476, 34.48, "ms_in22k_ft_in1k"),
        BaselineSpec("swin_large_patch4_window12_384", "Swin-L", 384, 196_735_516, 103.92, "ms_in22k_ft_in1k"),
        BaselineSpec("resnetv2_101x3_bit", "R-101x3", 384, 387_934_888, 204.21, "goog_in21k_ft_in1k"),
        BaselineSpec("resnetv2_152x4_bit", "R-152x4", 480, 936_533_224, 839.25, "goog_in21k_ft_in1k"),
    )
}
