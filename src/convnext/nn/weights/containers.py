"""What a weight file is, told by its content, never by its name, and how large it is, before anything is unpacked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from convnext.errors import WeightsError
from convnext.memory import available_memory

INDEX_BYTES = 100_000_000
"""No header or index of tensors is longer."""

_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # what torch.save began with before version 1.6
_SLACK = 16_000_000  # bytes that a file may hold besides its tensors

_OTHERS = (  # what else people have: how it begins, what it is, what to do
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them", "only weights of PyTorch are read"),
    (b"\x93NUMPY", "an array of NumPy", "only tables of tensors are read"),
    (b"GGUF", "a GGUF file", "only weights of PyTorch are read"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first"),
    (b"BZh", "compressed by bzip2", "unpack it first"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"\xff\xd8\xff", "a JPEG picture", "give a weight file"),
    (b"\x89PNG", "a PNG picture", "give a weight file"),
    (b"%PDF", "a PDF document", "give a weight file"),
    (b"\x7fELF", "a program", "give a weight file"),
)


def kind_of(path: Path) -> str:
    """What a file is: "safetensors", "zip" or "pickle" (torch's two formats), or "index" (of sharded safetensors).

    Raises:
        WeightsError: it is missing, cannot be read, is empty, or is something else, which the message names.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise WeightsError(f"{path} is empty (0 bytes); download or save it again")
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= header <= INDEX_BYTES:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(_LEGACY) or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"):
        return "pickle"
    _refuse_text(path, head)
    if head.lstrip().startswith(b"{") and size <= INDEX_BYTES:
        return "index"
    _refuse_others(path, head)
    looks = "safetensors" if path.suffix.lower() == ".safetensors" else "torch"
    raise WeightsError(
        f"{path} is damaged or not a {looks} file: it begins with {head[:4].hex(' ')}, as no weight file does. "
        "Download or save it again"
    )


def _refuse_text(path: Path, head: bytes) -> None:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(
            f"{path} is a web page, not a weight file; the download got an error page. Download it again"
        )
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f'{path} is a Git LFS pointer, not the weights; run "git lfs pull" where it comes from')


def _refuse_others(path: Path, head: bytes) -> None:
    found = next(((what, remedy) for start, what, remedy in _OTHERS if head.startswith(start)), None)
    if head[4:8] == b"TFL3":
        found = "a model of TensorFlow Lite", "only weights of PyTorch are read"
    elif head[257:262] == b"ustar":
        found = "a tar archive", "unpack it and give the weight file in it"
    elif b"pytorch" in head[:64] or b"onnx" in head[:64]:
        found = "an ONNX model", "give the weights that it was exported from"
    elif head.startswith((b"import ", b"#!", b'"""', b"from ")):
        found = "a program's text", "give a weight file"
    if found:
        raise WeightsError(f"{path} is {found[0]}, no weight file; {found[1]}")


def refuse_more_than_memory(path: Path, need: int) -> None:
    """Raises a WeightsError when so many bytes are not free."""
    free = available_memory()
    if free and need > free:
        raise WeightsError(
            f"{path} holds {need / 1e9:.1f} GB of tensors, {free / 1e9:.1f} GB of memory are free; end other programs, "
            "or use a larger machine"
        )


def check_zip(path: Path) -> None:
    """Looks into the directory of a torch file: what it is, and whether it unpacks to more than it can mean.

    Raises:
        WeightsError: it is damaged, TorchScript, another kind of zip, or a small file that unpacks to a huge one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise WeightsError(
            f"{path} is damaged or cut off (its zip has no directory at the end). Download or save it again"
        ) from error
    names = [entry.filename.partition("/")[2] for entry in inside]
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise WeightsError(
            f"{path} is TorchScript, a program with its weights, which is not run here. Save the weights alone where "
            "it can be trusted: torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)"
        )
    if "data.pkl" not in names:
        raise WeightsError(f"{path} is {_which_zip([entry.filename for entry in inside])}, not a file of torch.save")
    whole, packed = sum(entry.file_size for entry in inside), path.stat().st_size
    if whole > 4 * packed + _SLACK:
        raise WeightsError(
            f"{path} has {packed / 1e6:.1f} MB and would unpack to {whole / 1e9:.2f} GB; torch.save compresses "
            "nothing, so it is not unpacked. Save it again with torch.save"
        )
    refuse_more_than_memory(path, whole)


def _which_zip(files: list[str]) -> str:
    if "model.weights.h5" in files:
        return "a model of Keras"
    if files and all(name.endswith(".npy") for name in files):
        return "a file of NumPy's arrays (.npz)"
    if any(name.endswith(("archive_format", "models/model.json")) for name in files):
        return "a program of torch.export (.pt2)"
    return "a zip archive"


def read_index(path: Path) -> dict[str, Path]:
    """The file of each tensor, of weights that are in several files.

    Raises:
        WeightsError: it is no such index, or it names a file that is not beside it.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no weight file: it begins as JSON does, and is none ({_line(error)})") from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise WeightsError(f"{path} is a text in JSON, not a weight file; an index of weights has a table weight_map")
    files = {}
    for tensor, name in places.items():
        plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")
        if not plain or Path(name).name != name:
            raise WeightsError(f"{path} names the file {str(name)[:80]!r}; its files must lie beside it")
        files[str(tensor)] = path.parent / name
    absent = sorted({file.name for file in files.values() if not file.is_file()})
    if absent:
        raise WeightsError(f"{path} names {', '.join(absent[:3])}, which is not beside it; download all of its files")
    return files


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]
