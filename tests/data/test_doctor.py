"""The doctor: known flaws of real data, every kind of finding on small made-up data, and the perceptual hash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.fft import dctn

from convnext.data.doctor.diagnosis import Diagnosis
from convnext.data.doctor.findings import Finding
from convnext.data.pictures import phash
from convnext.data.pictures.phash import fingerprint, gradients, look_alikes, thumbnail
from convnext.tasks.classify.targets import diagnose

MakePictures = Callable[[dict[str, int]], Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of our own, so that tests neither see nor leave anything."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))


def scene(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A made-up photograph: smooth coloured blobs, different for every seed."""
    blobs = np.random.default_rng(seed).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """Makes DATA/<folder>/<number>.png for every folder and count, all different."""
    seeds = iter(range(10**6))

    def make(folders: dict[str, int]) -> Path:
        for folder, number in folders.items():
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            for index in range(number):
                scene(next(seeds)).save(tmp_path / "data" / folder / f"{index}.png")
        return tmp_path / "data"

    return make


def the(kind: str, diagnosis: Diagnosis) -> Finding:
    (finding,) = [finding for finding in diagnosis.findings if finding.kind == kind]
    return finding


def kinds(diagnosis: Diagnosis) -> set[str]:
    return {finding.kind for finding in diagnosis.findings}


# Real data


def test_flowers_have_the_flaws_of_their_readme(shared_data: Path) -> None:
    """The conflict across splits, the two identical pairs and the near-duplicate across splits are all found."""
    diagnosis = diagnose(shared_data / "flowers")
    twin = ("train/tulips/15922772266_1167a06620.jpg", "val/roses/15922772266_1167a06620.jpg")
    assert [case.files for case in the("label_conflict", diagnosis).cases] == [twin]
    assert [case.files for case in the("split_leak", diagnosis).cases] == [twin]
    assert "convnext doctor" not in diagnosis.to_text()  # the doctor sends nobody to the doctor
    assert {case.files for case in the("exact_duplicates", diagnosis).cases} == {
        ("train/sunflowers/14889392928_9742aed45b_m.jpg", "train/sunflowers/15066430311_fb57fa92b0_m.jpg"),
        ("train/sunflowers/15069459615_7e0fd61914_n.jpg", "train/sunflowers/15072973261_73e2912ef2_n.jpg"),
    }
    known = ("train/tulips/12916441224_2ed63596f8_n.jpg", "val/tulips/12916135413_dafcf3089e_n.jpg")
    assert known in [case.files for case in the("near_split_leak", diagnosis).cases]
    assert not diagnosis.ok
    assert "unreadable" not in kinds(diagnosis)
    assert (diagnosis.pictures, diagnosis.counts["val"]) == (3670, [63, 89, 64, 69, 79])


def test_nuclei_lack_a_label_column(shared_data: Path) -> None:
    """A table without the column is an error that names the columns there are, not an exception."""
    diagnosis = diagnose(shared_data / "nuclei" / "counts.csv")
    assert [finding.kind for finding in diagnosis.findings] == ["unusable"]
    assert 'no column "label"; its columns are path, target, split' in diagnosis.findings[0].message
    assert not diagnosis.ok


def test_nuclei_are_not_called_alike(shared_data: Path) -> None:
    """530 pictures of nuclei, many dark and all of one kind, are no look-alikes, as their README found too."""
    diagnosis = diagnose(shared_data / "nuclei" / "counts.csv", label_column="target")
    assert not kinds(diagnosis) & {"near_duplicates", "near_split_leak", "near_label_conflict", "exact_duplicates"}


# Kinds of findings


def test_a_sound_data_set_has_no_findings(make_pictures: MakePictures) -> None:
    """Enough pictures, all different, even classes: nothing to complain about."""
    diagnosis = diagnose(make_pictures({"a": 220, "b": 220}), val=0.5, test=0.0)
    assert diagnosis.findings == ()
    assert diagnosis.ok
    assert diagnosis.to_text().endswith("\n\nNothing to complain about.")


def test_copies_are_sorted_by_what_they_do(make_pictures: MakePictures) -> None:
    """Copies under two labels and in two splits are errors, plain ones a warning; the largest group comes first."""
    root = make_pictures({"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 2})

    def copy(source: str, *targets: str) -> None:
        for target in targets:
            (root / target).write_bytes((root / source).read_bytes())

    copy("train/a/0.png", "train/b/conflict.png")
    copy("train/a/1.png", "val/a/leak.png")
    copy("train/b/1.png", "train/b/copy1.png")
    copy("train/b/2.png", "train/b/copy2.png", "train/b/copy3.png")
    diagnosis = diagnose(root)
    levels = {finding.kind: finding.level for finding in diagnosis.findings}
    assert [levels[kind] for kind in ("label_conflict", "split_leak", "exact_duplicates")] == [
        "error",
        "error",
        "warning",
    ]
    assert the("label_conflict", diagnosis).files == ("train/a/0.png", "train/b/conflict.png")
    assert the("split_leak", diagnosis).files == ("train/a/1.png", "val/a/leak.png")
    copies = the("exact_duplicates", diagnosis)
    assert [len(case.files) for case in copies.cases] == [3, 2]
    assert copies.message == "2 pictures twice or more: 3 needless copies"
    assert [finding.level for finding in diagnosis.findings] == sorted(levels.values(), key="error warning note".find)


def test_our_own_split_never_leaks_equal_files(make_pictures: MakePictures) -> None:
    """Class folders: copies are a warning, and a split leak is impossible."""
    root = make_pictures({"a": 20, "b": 20})
    for index in range(20):
        (root / "a" / f"copy{index}.png").write_bytes((root / "a" / f"{index}.png").read_bytes())
    diagnosis = diagnose(root)
    assert len(the("exact_duplicates", diagnosis).cases) == 20
    assert "split_leak" not in kinds(diagnosis)
    assert diagnosis.ok


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "smaller": lambda picture: picture.resize((160, 120)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "flatter": lambda picture: ImageEnhance.Contrast(picture).enhance(0.6),
    "gray": lambda picture: ImageOps.grayscale(picture),
    "cropped": lambda picture: picture.crop((4, 3, picture.width - 4, picture.height - 3)),
    "inked": lambda picture: ImageOps.posterize(picture, 3),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_copies_across_splits_and_labels_are_found(make_pictures: MakePictures, edit: str) -> None:
    """Scaled, brightened, flattened, gray, cropped and posterised copies saved as JPEG are look-alikes."""
    root = make_pictures({"train/a": 12, "train/b": 12, "val/a": 3, "val/b": 3})
    original = scene(77_777, (320, 240))
    original.save(root / "train" / "a" / "original.png")
    EDITS[edit](original).save(root / "val" / "b" / "edited.jpg", quality=60)
    diagnosis = diagnose(root)
    pair = ("train/a/original.png", "val/b/edited.jpg")
    assert [case.files for case in the("near_split_leak", diagnosis).cases] == [pair]
    assert [case.files for case in the("near_label_conflict", diagnosis).cases] == [pair]
    assert the("near_split_leak", diagnosis).message.startswith("1 of 7 val pictures looks like a train picture")
    assert diagnosis.ok


def test_look_alikes_within_a_split_are_a_note(make_pictures: MakePictures) -> None:
    """A burst within train is worth a note."""
    root = make_pictures({"train/a": 12, "train/b": 12, "val/a": 3, "val/b": 3})
    for quality in (30, 90):
        scene(77_777, (320, 240)).save(root / "train" / "a" / f"{quality}.jpg", quality=quality)
    finding = the("near_duplicates", diagnose(root))
    assert (finding.level, finding.files) == ("note", ("train/a/30.jpg", "train/a/90.jpg"))


def test_unreadable_files_are_listed_with_reasons(make_pictures: MakePictures) -> None:
    """Each broken file is a case with its reason."""
    root = make_pictures({"a": 4, "b": 4})
    (root / "a" / "empty.jpg").touch()
    (root / "b" / "text.png").write_text("hello")
    finding = the("unreadable", diagnose(root))
    assert finding.message == "2 files of 10 cannot be read"
    assert [(*case.files, case.remark) for case in finding.cases] == [
        ("a/empty.jpg", "empty file (0 bytes)"),
        ("b/text.png", "not a picture in a known format: it is text"),
    ]


def test_uneven_and_small_classes(make_pictures: MakePictures) -> None:
    """Ten to one is a warning, three to one a note; classes with few pictures and those never judged are named."""
    root = make_pictures({"train/a": 60, "train/b": 6, "train/c": 30, "val/a": 4, "val/c": 2})
    diagnosis = diagnose(root)
    uneven = the("imbalance", diagnosis)
    assert uneven.level == "warning"
    assert uneven.message == 'uneven classes: "a" has 60 training pictures, "b" 6 (10:1)'
    assert the("small_class", diagnosis).message == "1 class has fewer than 20 training pictures: b 6"
    assert the("missing_class", diagnosis).message == "val has no picture of b"
    assert the("few_to_judge", diagnosis).message.endswith("an accuracy of 80% is uncertain by 32 points")
    make_pictures({"train/b/more": 9})
    assert the("imbalance", diagnose(root)).level == "note"


def test_sizes_shapes_and_blanks(make_pictures: MakePictures) -> None:
    """Tiny, huge, long and blank pictures are named with their sizes."""
    root = make_pictures({"a": 8, "b": 8})
    scene(1001, (20, 30)).save(root / "a" / "tiny.png")
    scene(1002, (4000, 2200)).save(root / "a" / "huge.jpg")
    scene(1003, (400, 100)).save(root / "b" / "long.png")
    Image.new("RGB", (64, 48), "gray").save(root / "b" / "blank1.png")
    Image.new("RGB", (64, 64), "black").save(root / "b" / "blank2.png")
    diagnosis = diagnose(root)
    assert [(case.files, case.remark) for case in the("tiny", diagnosis).cases] == [(("a/tiny.png",), "20 x 30")]
    assert [(case.files, case.remark) for case in the("huge", diagnosis).cases] == [(("a/huge.jpg",), "4000 x 2200")]
    assert [(case.files, case.remark) for case in the("elongated", diagnosis).cases] == [(("b/long.png",), "400 x 100")]
    assert set(the("blank", diagnosis).files) == {"b/blank1.png", "b/blank2.png"}
    assert "near_duplicates" not in kinds(diagnosis)


def test_small_pictures_are_a_trait_of_the_data_set(tmp_path: Path) -> None:
    """When most pictures are tiny it is a note about the data set, not a warning about each."""
    for index in range(12):
        folder = tmp_path / "data" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(index, (28, 28)).save(folder / f"{index}.png")
    finding = the("tiny", diagnose(tmp_path / "data"))
    assert finding.level == "note"
    assert finding.message == "small pictures: 12 of 12 have a side below 32 px"


def test_gray_pictures(make_pictures: MakePictures) -> None:
    """Some gray pictures are counted, whatever their format; all gray is said in one line."""
    root = make_pictures({"a": 4, "b": 4})
    for name in ("a/0.png", "b/0.png"):
        scene(50, (64, 48)).convert("L").convert("RGB").rotate(len(name)).save(root / name)
    scene(51).convert("L").save(root / "a" / "1.png")
    assert the("grayscale", diagnose(root)).message == "3 of 8 pictures are gray"
    for path in root.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert the("grayscale", diagnose(root)).message == "all pictures are gray"


def test_giveaways(make_pictures: MakePictures) -> None:
    """Classes that differ in file format, size or colour are warned of; unique sizes give nothing away."""
    root = make_pictures({"a": 10, "b": 10})
    for path in sorted((root / "b").iterdir()):
        Image.open(path).convert("L").resize((80, 80)).save(path.with_suffix(".bmp"))
        path.unlink()
    found = [finding.message for finding in diagnose(root).findings if finding.kind == "giveaway"]
    assert [text.split(" alone")[0] for text in found] == [
        "the file format",
        "the size in pixels",
        "being gray or coloured",
    ]
    assert "of 100% of the pictures (always naming the largest class: 50%)" in found[0]
    for index, path in enumerate(sorted(root.rglob("*.*"))):
        scene(index, (64 + index, 48)).save(path.with_suffix(".png"))
        if path.suffix != ".png":
            path.unlink()
    assert "giveaway" not in kinds(diagnose(root))


def test_classes_that_may_be_one(make_pictures: MakePictures) -> None:
    """Names that differ only in case, spaces or hyphens are warned of."""
    finding = the("class_names", diagnose(make_pictures({"Red Fox": 3, "red-fox": 3, "owl": 3})))
    assert finding.message == "classes that may be one: 'Red Fox' and 'red-fox'"


def test_several_labels(make_pictures: MakePictures, tmp_path: Path) -> None:
    """Multi-label tables are checked too: copies conflict when their sets of labels differ."""
    root = make_pictures({"x": 12})
    (root / "x" / "copy.png").write_bytes((root / "x" / "0.png").read_bytes())
    rows = [f"x/{index}.png,{('sky', 'sea', 'sea|sky')[index % 3]}" for index in range(12)]
    (root / "t.csv").write_text("\n".join(["path,label", *rows, "x/copy.png,sea|sky"]))
    diagnosis = diagnose(root / "t.csv")
    assert diagnosis.multi_label
    assert the("label_conflict", diagnosis).files == ("x/0.png", "x/copy.png")
    assert "several labels a picture" in diagnosis.to_text()


def test_files_elsewhere_are_named_from_their_common_folder(make_pictures: MakePictures, tmp_path: Path) -> None:
    """A table that lies apart from its pictures gives short names, and says where they begin."""
    root = make_pictures({"a": 4, "b": 4})
    (root / "a" / "bad.png").touch()
    (tmp_path / "table").mkdir()
    rows = [f"{path},{path.parent.name}" for path in sorted(root.rglob("*.png"))]
    (tmp_path / "table" / "t.csv").write_text("\n".join(["path,label", *rows]))
    diagnosis = diagnose(tmp_path / "table" / "t.csv")
    assert the("unreadable", diagnosis).files == ("a/bad.png",)
    assert diagnosis.notes[-1] == f"files are in {root}"


# Output


def test_json_holds_everything_and_is_the_same_every_time(make_pictures: MakePictures) -> None:
    """The JSON survives a round trip, is the same from the cache, and has all cases."""
    root = make_pictures({"a": 30, "b": 3})
    for index in range(12):
        (root / "a" / f"bad{index}.png").write_text("?")
    first = json.dumps(diagnose(root).to_json())
    assert json.dumps(diagnose(root, workers=1).to_json()) == first
    data = json.loads(first)
    assert list(data) == [
        *("root", "ok", "layout", "classes", "multi_label", "counts", "pictures", "broken", "short_sides", "notes"),
        "findings",
    ]
    unreadable = next(finding for finding in data["findings"] if finding["kind"] == "unreadable")
    assert list(unreadable) == ["level", "kind", "message", "advice", "cases"]
    assert len(unreadable["cases"]) == data["broken"] == 12
    assert (data["pictures"], data["short_sides"]) == (33, {"smallest": 48, "median": 48, "largest": 48})


def test_text_is_compact_and_says_what_to_do(make_pictures: MakePictures) -> None:
    """Errors first, at most five cases of a warning, one advice each, 100 columns, plain ASCII, a verdict."""
    root = make_pictures({"train/a": 30, "train/b": 3, "val/a": 3, "val/b": 3})
    for index in range(12):
        (root / "train" / "a" / f"bad{index}.png").write_text("?")
    (root / "val" / "b" / "twin.png").write_bytes((root / "train" / "a" / "0.png").read_bytes())
    diagnosis = diagnose(root)
    text = diagnosis.to_text()
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 100
    assert text.splitlines()[0] == str(root)
    heads = [line for line in text.splitlines() if line.startswith(("ERROR", "WARNING", "NOTE"))]
    assert [head.split(":")[0] for head in heads] == sorted(
        (head.split(":")[0] for head in heads), key=["ERROR", "WARNING", "NOTE"].index
    )
    assert text.count("  Do: ") == len(heads) == len(diagnosis.findings)
    assert text.count("bad") == 5
    assert "    ... and 7 more" in text
    assert text.count("twin.png") == 1  # the same case under two headings is shown once
    assert "(the same as above)" in text
    assert text.splitlines()[-1].startswith("2 errors, ")
    assert text.splitlines()[-1].endswith("put the errors right before you train. --json lists every case.")


def test_many_classes_are_summed_up(make_pictures: MakePictures) -> None:
    """Of many classes the table shows the six largest and the six smallest, and the sum of all."""
    diagnosis = diagnose(make_pictures({f"class{index:02}": 3 + index for index in range(20)}))
    lines = diagnosis.to_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.split() == ["train", "val", "test"])
    table = [line.split() for line in lines[start + 1 : start + 15]]
    assert [row[0] for row in table[:6]] == [f"class{index}" for index in range(19, 13, -1)]
    assert table[6] == ["...", "8", "more"]
    assert sum(map(int, table[-1][1:])) == sum(3 + index for index in range(20))


def test_odd_names_in_the_output(make_pictures: MakePictures) -> None:
    """Names that are not UTF-8 and line breaks in names come out as escapes, in text and JSON."""
    root = make_pictures({"a": 3, "b": 3})
    try:
        (root / "a" / os.fsdecode(b"caf\xe9\n.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    diagnosis = diagnose(root)
    assert "a/caf\\udce9\\n.png  (empty file (0 bytes))" in diagnosis.to_text()
    json.dumps(diagnosis.to_json(), ensure_ascii=False).encode("utf-8")


# The perceptual hash


def test_the_hash_is_the_sign_of_the_low_frequencies() -> None:
    """The 64 bits are those of scipy's DCT: above the median among the 64 lowest frequencies."""
    gray = np.random.default_rng(0).uniform(0, 255, (32, 32))
    theirs = dctn(gray)[:9, :9]
    basis, order = phash._transform()
    kept = theirs.reshape(-1)[order]
    np.testing.assert_allclose(theirs, 4 * (basis @ gray @ basis.T), rtol=1e-9)  # scipy's DCT-II is twice ours each way
    assert f"{fingerprint(gray):064b}" == "".join("1" if value > np.median(kept) else "0" for value in kept)
    assert len(set(order.tolist())) == 64
    assert 0 not in order


def test_the_hash_ignores_brightness_and_contrast() -> None:
    """a * picture + b has the same bits for a > 0."""
    gray = np.random.default_rng(1).uniform(0, 255, (32, 32))
    assert fingerprint(0.3 * gray + 40) == fingerprint(gray)
    assert fingerprint(gray.T) != fingerprint(gray)


def test_candidates_are_all_pairs_within_the_distance() -> None:
    """The tiled search finds the pairs that a plain loop over all pairs finds."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 40, dtype=np.uint64)
    flips = np.array(
        [sum(1 << int(bit) for bit in rng.choice(64, 5, replace=False)) for _ in range(1400)], dtype=np.uint64
    )
    hashes = base[rng.integers(0, 40, 1400)] ^ flips
    numbers = hashes.tolist()
    expected = {
        (i, j)
        for i in range(len(numbers))
        for j in range(i + 1, len(numbers))
        if (numbers[i] ^ numbers[j]).bit_count() <= phash.MAX_DISTANCE
    }
    found = [
        (int(i), int(j)) for first, second in phash._candidates(hashes) for i, j in zip(first, second, strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected


def _bits(pictures: list[Image.Image]) -> tuple[list[int], list[int]]:
    gray = [picture.convert("L") for picture in pictures]
    return [fingerprint(np.asarray(thumbnail(picture))) for picture in gray], [gradients(picture) for picture in gray]


def test_a_frame_that_all_pictures_share_makes_no_look_alikes() -> None:
    """Pictures of one product in one rig: the plain hash calls them all equal, the score only the true copies."""
    frame = np.zeros((96, 96), dtype=np.float64)
    frame[8:88, 8:88] = 200
    frame[40:44] = frame[:, 60:63] = 30
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(150):
        texture = np.asarray(Image.fromarray(rng.normal(0, 12, (12, 12)).astype(np.float32)).resize((96, 96)))
        pictures.append(Image.fromarray(np.clip(frame + texture, 0, 255).astype(np.uint8)))
    pictures.append(ImageEnhance.Brightness(pictures[3]).enhance(0.8))
    hashes, more = _bits(pictures)
    candidates = sum(len(first) for first, _ in phash._candidates(np.array(hashes, dtype=np.uint64)))
    assert candidates > 100
    assert [(pair.first, pair.second) for pair in look_alikes(hashes, more)] == [(3, 150)]


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_few_pictures(number: int) -> None:
    """No, one, two equal and three pictures are no special case."""
    hashes, more = _bits([scene(min(index, 1)) for index in range(number)])
    pairs = look_alikes(hashes, more)
    assert [(pair.first, pair.second) for pair in pairs] == ([(1, 2)] if number == 3 else [])
    same = look_alikes(hashes[:1] * 2, more[:1] * 2)
    assert [pair.score for pair in same] == ([1.0] if number else [])


def test_a_film_stops_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more pairs than the limit are ever returned."""
    monkeypatch.setattr(phash, "MAX_PAIRS", 50)
    hashes, more = _bits([scene(0)] * 30 + [scene(index) for index in range(1, 30)])
    assert len(look_alikes(hashes, more)) == 50
