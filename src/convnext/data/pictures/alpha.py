"""Transparency: what shows where a picture lets something through, and what only looks like it."""

from __future__ import annotations

from PIL import Image


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """A new picture in `mode`; transparency is laid on white unless `mode` has it too."""
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        if mode == "RGBA":
            return rgba
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        return white.convert(mode)
    if mode == "RGBA":
        return image.convert("RGB").convert("RGBA")
    if mode == "L" and image.mode not in ("1", "L", "RGB", "RGBX", "YCbCr"):
        image = image.convert("RGB")
    return image.convert(mode)


def spread_level(image: Image.Image) -> None:
    """The transparent level of a PNG of 2 or 4 bits, before it is loaded: Pillow spreads its pixels over 0..255."""
    tiles = getattr(image, "tile", None) if image.format == "PNG" else None
    stored = str(tiles[0].args) if tiles else ""
    spread = {"L;2": 85, "L;4": 17}.get(stored)
    level = image.info.get("transparency")
    if spread and isinstance(level, int):
        image.info["transparency"] = level * spread


def opaque_bmp(image: Image.Image) -> Image.Image:
    """A BMP without an alpha channel that it fills with zeros: the field is reserved, and many programs leave it so."""
    if image.format in ("BMP", "DIB") and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image
