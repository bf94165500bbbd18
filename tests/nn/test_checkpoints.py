"""Which tensors of a checkpoint are the network's: averages beside raw weights, prefixes, several files, others."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from convnext.errors import UserError, WeightsError
from convnext.nn.convnext.backbone import ConvNeXt
from convnext.nn.create import create_model
from convnext.nn.weights import containers
from convnext.nn.weights.files import read_model, read_state, save_model
from convnext.nn.weights.load import from_native, load_pretrained, load_state

State = dict[str, Tensor]


def micro(classes: int = 3) -> ConvNeXt:
    return ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), num_classes=classes)


@pytest.fixture
def raw() -> State:
    torch.manual_seed(0)
    return {key: torch.randn(tensor.shape) for key, tensor in micro().state_dict().items()}


@pytest.fixture
def mean(raw: State) -> State:
    return {key: tensor + 1 for key, tensor in raw.items()}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


TWO_SETS: dict[str, Callable[[State, State], object]] = {
    "timm": lambda raw, mean: {"epoch": 3, "arch": "x", "state_dict": raw, "state_dict_ema": mean, "metric": 80.1},
    "authors": lambda raw, mean: {"model": raw, "optimizer": {"state": {}}, "epoch": 3, "model_ema": mean},
    "torchvision": lambda raw, mean: {
        "model": raw, "model_ema": under("module.", mean) | {"n_averaged": torch.tensor(7)}
    },
    "basicsr": lambda raw, mean: {"params": raw, "params_ema": mean},
    "plain keys": lambda raw, mean: {"net": raw, "ema": mean},
    "ours": lambda raw, mean: {
        "model": raw, "ema": {"average": mean, "updates": 5}, "random": [{"cpu": raw["norm.bias"]}]
    },
    "lightning module": lambda raw, mean: {
        "state_dict": under("model.", raw) | under("ema_model.module.", mean)
        | {"ema_model.n_averaged": torch.tensor(7), "loss_fn.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.5.0", "callbacks": {"x": {"best": torch.tensor(1.0)}},
    },
    "lightning averaging": lambda raw, mean: {
        "state_dict": under("model.", mean), "current_model_state": under("model.", raw),
        "averaging_state": {"n_averaged": torch.tensor(7)},
    },
    "mmengine": lambda raw, mean: {
        "meta": {"mmengine_version": "0.10.0"}, "state_dict": mean,
        "ema_state_dict": under("module.", raw) | {"steps": torch.tensor(7)},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", TWO_SETS)
def test_of_two_sets_the_average_is_taken_and_said(kind: str, raw: State, mean: State, tmp_path: Path) -> None:
    """Whatever a training code calls them; the line names both and how to get the other, and that works."""
    path, said = tmp_path / "checkpoint.pth", []
    torch.save(TWO_SETS[kind](raw, mean), path)
    assert equal(read_state(path, said.append), mean)
    assert len(said) == 1
    assert "holds two sets of weights" in said[0]
    assert "the moving average, is taken" in said[0]
    assert ("loss_fn.weight" in said[0]) == (kind == "lightning module")
    other = said[0].split('; "')[1].split('"')[0]  # the file with #NAME, as printed
    assert equal(read_state(Path(other), said.append), raw)
    assert equal(read_state(tmp_path / "checkpoint.pth#ema", said.append), mean)
    assert equal(read_state(tmp_path / "checkpoint.pth#model", said.append), raw)
    with pytest.raises(WeightsError, match=r'holds no one set of weights "other"; it has "'):
        read_state(tmp_path / "checkpoint.pth#other")


def test_timms_own_checkpoints_are_read_as_timm_reads_them(tmp_path: Path) -> None:
    """Written by timm's saver; the tensors are those that timm's `load_state_dict` gives by default, with use_ema."""
    from timm.models import load_state_dict

    model = timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=3)
    ema = ModelEmaV3(model, decay=0.5)
    for parameter in model.parameters():
        parameter.data.add_(1.0)
    ema.update(model)
    optimizer = torch.optim.AdamW(model.parameters())
    saver = CheckpointSaver(model, optimizer, model_ema=ema, checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path))
    saver.save_checkpoint(1, 0.5)
    path = next(tmp_path.glob("*.pth.tar"))
    for part, use_ema in (("", True), ("#state_dict", False), ("#ema", True)):
        expected = load_state_dict(str(path), use_ema=use_ema, weights_only=True)
        assert equal(read_state(Path(f"{path}{part}")), dict(expected))


WRAPPED: dict[str, Callable[[nn.Module], State]] = {
    "average": lambda model: AveragedModel(model).state_dict(),
    "average of a distributed one": lambda model: (
        under("module.", model.state_dict()) | {"n_averaged": torch.tensor(3)}
    ),
    "average, distributed, compiled": lambda model: (
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)).state_dict() | {}
    ),
    "compiled average": lambda model: (
        under("_orig_mod.module.module.", model.state_dict()) | {"_orig_mod.n_averaged": torch.tensor(3)}
    ),
    "compiled part": lambda model: {
        key.replace("stages.0.", "stages.0._orig_mod."): tensor for key, tensor in model.state_dict().items()
    },
    "sharded part": lambda model: {
        key.replace("blocks.0.", "blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module."): tensor
        for key, tensor in model.state_dict().items()
    },
    "lightning": lambda model: under("model.", model.state_dict()) | {"loss_fn.weight": torch.ones(3)},
    "lightning, compiled": lambda model: under("model._orig_mod.", model.state_dict()),
    "lightning net": lambda model: under("net.", model.state_dict()),
}


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_are_taken_off(kind: str, suffix: str, raw: State, tmp_path: Path) -> None:
    """AveragedModel, DistributedDataParallel, torch.compile, FSDP, Lightning, and one around the other."""
    model = micro()
    model.load_state_dict(raw)
    path, said, wrapped = tmp_path / f"file{suffix}", [], WRAPPED[kind](model)
    if suffix == ".ckpt":
        torch.save({"state_dict": wrapped, "epoch": 3}, path)
    else:
        safetensors.torch.save_file({key: tensor.clone() for key, tensor in wrapped.items()}, path)
    assert equal(read_state(path, said.append), raw)
    assert ["loss_fn.weight" in line for line in said] == ([True] if kind == "lightning" else [])


def test_weights_beside_numbers_are_taken_and_what_is_left_out_is_said(raw: State, mean: State, tmp_path: Path) -> None:
    """`{**state_dict, "epoch": 3}`, also with an optimizer, with wrappers, and with an average in a table of its own; a
    few tensors among other things are no network's."""
    file, said = tmp_path / "flat.pth", []
    torch.save({**raw, "epoch": 3, "note": "x", "optimizer": {"state": {}, "param_groups": []}}, file)
    assert equal(read_model(file, said.append)[0], raw)
    assert said == [f"{file}: left out, since they are beside the network: epoch, note, optimizer"]
    load_state(micro(), read_state(file), source="the file")
    torch.save({**under("module.", raw), "epoch": 3}, file)
    said.clear()
    assert equal(read_model(file, said.append)[0], raw)
    assert "left out, since they are beside the network: epoch" in said[0]
    torch.save({**raw, "epoch": 3, "model_ema": mean}, file)
    said.clear()
    assert equal(read_model(file, said.append)[0], mean)
    assert f'"{file}#model" takes the raw ones' in said[0]
    assert equal(read_model(Path(f"{file}#model"))[0], raw)
    torch.save(
        {"state_dict": raw, "epoch": 3, **under("loss.", {f"{i}.weight": torch.ones(2) for i in range(9)})}, file
    )
    assert equal(read_model(file)[0], raw)
    torch.save({"epoch": 3, "loss.weight": torch.ones(3), "loss.bias": torch.ones(3)}, file)
    with pytest.raises(WeightsError, match="is not a table of tensors; it holds epoch"):
        read_model(file)


def test_where_nothing_says_which_the_user_must(raw: State, mean: State, tmp_path: Path) -> None:
    """A teacher and a student, two averages: refused with the ways to write it; each of them works."""
    path = tmp_path / "two.pth"
    for content in (
        {"student": raw, "teacher": mean},
        {"state_dict": under("student.", raw) | under("teacher.", mean)},
    ):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=r"holds 2 sets of weights; say which: .*two.pth#.*student") as caught:
            read_state(path)
        ways = [way.strip(",") for way in str(caught.value).split("say which: ")[1].split()]
        assert [equal(read_state(Path(way)), state) for way, state in zip(ways, (raw, mean), strict=True)] == [
            True,
            True,
        ]
        assert equal(read_state(tmp_path / "two.pth#teacher"), mean)
    torch.save({"model": raw, "ema": mean, "swa_state_dict": mean}, path)
    with pytest.raises(WeightsError, match="holds 3 sets"):
        read_state(path)


def test_a_part_of_a_network_of_ones_own(raw: State, tmp_path: Path) -> None:
    """`FILE#PREFIX` takes what lies under a prefix of somebody's own."""
    torch.save(under("visual.", raw) | {"text.weight": torch.ones(3), "scale": torch.ones(1)}, tmp_path / "clip.pth")
    assert equal(read_state(tmp_path / "clip.pth#visual"), raw)


def test_a_name_with_a_number_sign_is_a_name(raw: State, tmp_path: Path) -> None:
    """A file called so is meant before a part of another one."""
    torch.save({"state_dict": raw, "state_dict_ema": raw}, tmp_path / "a")
    torch.save({"model": raw}, tmp_path / "a#ema")
    said: list[str] = []
    read_state(tmp_path / "a#ema", said.append)
    assert said == []
    read_state(tmp_path / "a#ema#model", said.append)
    assert said == [f'{tmp_path / "a#ema"}: the weights "model" are taken']


# --- by content


@pytest.mark.parametrize(
    "name", ["model_best.pth.tar", "W.PTH", "w.bin", "w.ckpt", "w", "w.th", "w.safetensors", "w.zip"]
)
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_what_a_file_is_its_content_says(name: str, kind: str, raw: State, tmp_path: Path) -> None:
    """The same tensors from each kind of file under every name."""
    path = tmp_path / name
    if kind == "safetensors":
        safetensors.torch.save_file(raw, path)
    else:
        torch.save({"state_dict": raw}, path, _use_new_zipfile_serialization=kind == "zip")
    assert equal(read_state(path), raw)


def others(folder: Path, raw: State) -> dict[str, str]:
    """Files of other kinds, and what each must be called."""
    torch.save(raw, folder / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own about TorchScript
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), folder / "script.pt")
    np.savez(folder / "a.npz", a=np.ones(3))
    np.save(folder / "a.npy", np.ones(3))
    (folder / "w.gz").write_bytes(gzip.compress((folder / "w.pth").read_bytes()))
    (folder / "h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "page.pth").write_text("<html>")
    (folder / "table.json").write_text('{"a": 1}')
    (folder / "half.json").write_text('{"a": ')
    (folder / "onnx").write_bytes(b"\x08\x09\x12\x07pytorch\x1a\x052.9.0" + bytes(600))
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.writestr("x/readme.txt", "hello")
    shutil.make_archive(str(folder / "real"), "tar", folder, "w.pth")
    return {
        "script.pt": "is TorchScript, a program with its weights, which is not run",
        "a.npz": r"is a file of NumPy's arrays \(.npz\), not a file of torch.save",
        "a.npy": "is an array of NumPy",
        "w.gz": "is compressed by gzip.*unpack it first",
        "h5": "is an HDF5 file",
        "page.pth": "is a web page",
        "table.json": "is a text in JSON.*weight_map",
        "half.json": "begins as JSON does, and is none",
        "onnx": "is an ONNX model",
        "code.zip": "is a zip archive, not a file of torch.save",
        "real.tar": "is a tar archive.*unpack it",
    }


def test_other_files_are_called_what_they_are(raw: State, tmp_path: Path) -> None:
    """None of them is called damaged, and none is run."""
    for name, words in others(tmp_path, raw).items():
        with pytest.raises(WeightsError, match=words) as caught:
            read_state(tmp_path / name)
        assert "damaged" not in str(caught.value), name


def test_a_pickled_model_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """A whole model, as torch.save(model) writes it, is named by its class, and not called damaged."""
    torch.save({"model": micro(), "epoch": 1}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match=r"holds a Python object \(convnext.*ConvNeXt\).*save model.state_dict"):
        read_state(tmp_path / "m.pt")


def test_a_small_file_that_unpacks_to_gigabytes_is_not_unpacked(
    raw: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The zip's directory is asked first; so are tensors that repeat a few bytes, and memory that is not there."""
    torch.save({"x.weight": torch.zeros(20_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as old, zipfile.ZipFile(tmp_path / "bomb.pth", "w", 8) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert (tmp_path / "bomb.pth").stat().st_size < 1_000_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(WeightsError, match=r"has 0\.\d MB and would unpack to 0.08 GB"):
        read_state(tmp_path / "bomb.pth")
    monkeypatch.setattr(containers, "available_memory", lambda: 1_000_000)
    with pytest.raises(WeightsError, match=r"holds 0.1 GB of tensors, 0.0 GB of memory are free"):
        read_state(tmp_path / "plain.pth")
    monkeypatch.undo()
    torch.save({"x.weight": torch.zeros(1).expand(10**12)}, tmp_path / "repeated.pth")
    with pytest.raises(WeightsError, match=r"x.weight says that it has 4000000000000 bytes and holds 4"):
        read_state(tmp_path / "repeated.pth")


# --- several files


def sharded(folder: Path, raw: State, kind: str = "safetensors") -> Path:
    """Weights in two files, as transformers saves them."""
    folder.mkdir(exist_ok=True)
    places = {}
    for number in (0, 1):
        part = dict(list(raw.items())[number::2])
        name = f"model-0000{number + 1}-of-00002.{kind}"
        safetensors.torch.save_file(part, folder / name) if kind == "safetensors" else torch.save(part, folder / name)
        places |= dict.fromkeys(part, name)
    stem = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    index = folder / f"{stem}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_in_several_files_are_read_by_their_index(kind: str, raw: State, tmp_path: Path) -> None:
    """Given the index, or the folder; also as transformers itself writes them."""
    index = sharded(tmp_path / "hf", raw, kind)
    assert equal(read_state(index), raw)
    assert equal(read_state(index.parent), raw)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../secret.safetensors", "its files must lie beside it"),
        ("/etc/passwd", "its files must lie beside it"),
        ("a\\b", "its files must lie beside it"),
        ("..", "its files must lie beside it"),
        ("", "its files must lie beside it"),
        (3, "its files must lie beside it"),
        (None, "its files must lie beside it"),
        ("absent.safetensors", "names absent.safetensors, which is not beside it"),
        ("model.safetensors.index.json", "is an index itself"),
        ("model-00001-of-00002.safetensors", "lacks .*, which model.safetensors.index.json says is in it"),
    ],
)
def test_an_index_names_files_beside_it_that_hold_what_it_says(
    name: object, words: str, raw: State, tmp_path: Path
) -> None:
    """No file outside its folder is opened, and no tensor is missing in silence."""
    index = sharded(tmp_path / "hf", raw)
    safetensors.torch.save_file(raw, tmp_path / "secret.safetensors")
    content = json.loads(index.read_text())
    content["weight_map"][list(raw)[1]] = name
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=words):
        read_state(index)


# --- run folders, other heads


def run_of(folder: Path, classes: list[str], state: State, name: str = "convnext_atto") -> Path:
    """A run folder with as much in it as weights need."""
    folder.mkdir()
    (folder / "recipe.toml").write_text("")
    config = {"model": {"name": name}, "classes": classes}
    save_model(folder / "best.safetensors", state, config)
    save_model(folder / "last.safetensors", {key: tensor + 1 for key, tensor in state.items()}, config)
    return folder


@pytest.mark.parametrize("judged", ["", '{"weights": "best"}', '{"weights": "last"}'])
def test_a_run_folder_is_a_start(judged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`weights=RUN` takes the model that the run's result judged, or the best so far, and says which file it is."""
    model = create_model("convnext_atto", num_classes=2)
    run = run_of(tmp_path / "run", ["a", "b"], model.state_dict())
    if judged:
        (run / "result.json").write_text(judged)
    loaded = create_model("convnext_atto", num_classes=2, weights=run, classes=("a", "b"))
    expected = read_state(run / ("last.safetensors" if "last" in judged else "best.safetensors"))
    assert equal(dict(loaded.state_dict()), expected)
    assert str(run / ("last" if "last" in judged else "best")) in capsys.readouterr().err


def test_folders_without_weights_say_what_is_missing(tmp_path: Path) -> None:
    """A run that has no model yet, a damaged result, any other folder."""
    with pytest.raises(WeightsError, match=r"is a folder; give the weight file itself; there is none in it"):
        read_state(tmp_path)
    (tmp_path / "recipe.toml").touch()
    with pytest.raises(WeightsError, match="is a run without a model yet"):
        read_state(tmp_path)
    (tmp_path / "best.safetensors").touch()
    (tmp_path / "result.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match=r"result.json is damaged"):
        read_state(tmp_path)


@pytest.mark.parametrize("name", ["convnext_atto", "timm:resnet18", "roadmap:resnet50:patchify-stem:0.125"])
@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("a", "b", "c"), ""),
        (("c", "a", "b"), "follow the names of the classes: 3 taken over, in another order"),
        (("x", "c", "a"), "2 taken over, in another order; new rows for x; left out: b"),
        (("b", "c"), "2 taken over; left out: a"),
        (("a", "b", "c", "d", "e"), "3 taken over; new rows for d, e"),
        (("x", "y", "z"), r"None of its classes \(a, b, c\) is among these \(x, y, z\): the head is new"),
    ],
)
def test_rows_of_the_head_follow_the_names(
    name: str, classes: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each class has the row that the run had for its name, others a new one, and it is said; the rest is the run's."""
    torch.manual_seed(0)
    before = create_model(name, num_classes=3)
    run = run_of(tmp_path / "run", ["a", "b", "c"], before.state_dict(), name)
    after = create_model(name, num_classes=len(classes), weights=run, classes=classes)
    old, new = before.classifier(), after.classifier()
    for row, label in enumerate(classes):
        known = "abc".find(label)
        same = [torch.equal(new.weight[row], weight) for weight in old.weight]
        assert same == [number == known for number in range(3)], label
        if known >= 0:
            assert torch.equal(new.bias[row], old.bias[known])
    body = [key for key in before.state_dict() if before.state_dict()[key].shape[:1] != (3,)]
    assert all(torch.equal(before.state_dict()[key], after.state_dict()[key]) for key in body)
    said = capsys.readouterr().err
    assert ("names of the classes" in said or "is new" in said) == bool(words)
    if words:
        assert re.search(words, said)


def test_bare_weights_keep_their_order_and_say_so(raw: State, tmp_path: Path) -> None:
    """Weights that name no classes, with as many outputs: by position, in one line."""
    torch.save(raw, tmp_path / "bare.pth")
    report = load_pretrained(micro(), "x", str(tmp_path / "bare.pth"), pytest.fail, ("cat", "dog", "elk"))
    assert "It names no classes, so its outputs are taken in their order: 0 cat, 1 dog, 2 elk." in str(report)


def test_names_that_are_no_names_are_refused(raw: State, tmp_path: Path) -> None:
    """A description with classes that are no list of different names, or too many."""
    for classes, words in (
        (["a", "a", "b"], "no list of different classes"),
        ("abc", "no list"),
        (["a"], "names 1 classes"),
    ):
        save_model(tmp_path / "m.safetensors", raw, {"classes": classes})
        with pytest.raises(WeightsError, match=words):
            load_pretrained(micro(), "x", str(tmp_path / "m.safetensors"), pytest.fail, ("a", "b", "d"))
    with pytest.raises(UserError, match="as many names as there are outputs, 2"):
        create_model("convnext_atto", num_classes=2, classes=("a", "b", "c"))


def test_model_files_are_written_through_no_link(raw: State, tmp_path: Path) -> None:
    """A link in the place of the file is replaced, and one in the place of an older version's part stays alone."""
    mine = tmp_path / "mine.txt"
    mine.write_text("kept")
    for name in (".best.safetensors.partial", "best.safetensors"):
        (tmp_path / name).symlink_to(mine)
    save_model(tmp_path / "best.safetensors", raw, {})
    assert mine.read_text() == "kept"
    assert equal(read_model(tmp_path / "best.safetensors")[0], raw)


def test_formats_in_checkpoints_of_lightning(raw: State, tmp_path: Path) -> None:
    """timm's names below `model.`, beside a loss: the network is recognised and loads."""
    torch.save(
        {"state_dict": under("model.", from_native(raw, "timm")) | {"loss.pos": torch.ones(3)}}, tmp_path / "l.ckpt"
    )
    model, said = micro(), []
    report = load_pretrained(model, "x", str(tmp_path / "l.ckpt"), said.append)
    assert report is not None
    assert report.format == "timm"
    assert equal(dict(model.state_dict()), raw)
    assert "left out, since they are beside the network: loss.pos" in said[0]


def test_a_table_that_stands_in_many_places_is_refused_at_once(tmp_path: Path) -> None:
    """A few kilobytes of a pickle can mean 400^4 tables, with weights in them or without."""
    start = time.process_time()
    for innermost in ({"head.weight": torch.zeros(1)}, {}):
        table: dict[str, object] = {**innermost}
        for _ in range(4):
            table = {f"k{i}": table for i in range(400)}
        torch.save(table, tmp_path / "laughs.pth")
        assert (tmp_path / "laughs.pth").stat().st_size < 100_000
        with pytest.raises(WeightsError, match="holds more tables than weights have"):
            read_state(tmp_path / "laughs.pth")
    assert time.process_time() - start < 10


def test_names_in_a_checkpoint_command_no_terminal(
    raw: State, mean: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is said about sets of weights shows the signs of their names as escapes."""
    torch.save({"\x1b]0;owned\x07\u202e": raw, "ema": mean}, tmp_path / "two.pth")
    read_state(tmp_path / "two.pth")
    said = capsys.readouterr().err
    assert "\\u001b]0;owned\\u0007\\u202e" in said
    assert not set("\x1b\x07\u202e") & set(said)


def test_an_average_without_names_is_not_passed_over_in_silence(
    raw: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch_ema and diffusers keep it as a list of tensors: the raw weights are taken, and it is said; once they are
    asked for there is nothing to say."""
    path = tmp_path / "m.pth"
    torch.save({"model": raw, "ema": {"decay": 0.9, "shadow_params": list(raw.values())}}, path)
    assert read_state(path).keys() == raw.keys()
    assert (
        'its average "ema" is a list of tensors without names, so the raw weights are taken' in capsys.readouterr().err
    )
    read_state(tmp_path / "m.pth#model")
    assert "without names" not in capsys.readouterr().err
