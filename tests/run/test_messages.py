"""What is said: no name in it commands a terminal or a spreadsheet, and nobody need listen."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from convnext.__main__ import main
from convnext.cli.parts import print_out
from convnext.config import load_recipe
from convnext.data.names import csv_cell, csv_path, csv_value, harmless, printable
from convnext.errors import RecipeError, UserError
from convnext.evaluate.predict import to_csv
from convnext.run.environment import launched
from convnext.run.messages import Listener, tell
from convnext.tasks.classify.answers import Prediction
from convnext.train.distributed import here, joined, planned

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\r\x08\x7f\u202e\u2066\u200f\u061c\u2028\ufeff\U000e0041"
LEGITIMATE = "Käfer 東京\u3000駅 नमस्ते क\u094d\u200dष می\u200cخواهم 👩\u200d🔬 e\u0301\xa0é שלום"


def test_what_commands_a_terminal_is_escaped_and_what_people_write_is_not() -> None:
    """Controls, marks of direction, line separators and tags; letters, joiners and spaces of all scripts stay."""
    for show in (printable, harmless):
        shown = show(ESCAPES)
        assert not any(sign in shown for sign in ESCAPES if sign not in "]0;title[2J31m")
        assert shown.isascii()
        assert show(LEGITIMATE) == LEGITIMATE
    assert printable("a\nb\tc") == "a\\nb\\tc"
    assert harmless("a\nb\tc") == "a\nb\tc"
    assert printable("caf\udce9") == "caf\\udce9"


def test_json_on_a_terminal_stays_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """The escapes are JSON's own."""
    value = {"name": ESCAPES + LEGITIMATE}
    print_out(json.dumps(value, ensure_ascii=False))
    shown = capsys.readouterr().out
    assert json.loads(shown) == value
    assert "\u202e" not in shown
    assert "\x9b" not in shown


def test_every_message_is_made_harmless(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An error that names a folder, on the command line."""
    name = tmp_path / "photos\x1b[2J\u202egpj"
    assert main(["train", str(name)]) == 2
    assert main(["train", "--resume", "--out", str(name)]) == 2
    assert main(["report", str(name)]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.err + said.out
    assert "\u202e" not in said.err + said.out
    assert "\\u202egpj" in said.err


class Gone(io.StringIO):
    """A stream whose listener is gone."""

    tried = 0

    def write(self, text: str) -> int:
        Gone.tried += 1
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_nobody_need_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to messages nor to results, nor to what libraries write beside them."""
    for stream in (Gone(), io.StringIO()):
        stream.close() if type(stream) is io.StringIO else None
        monkeypatch.setattr(sys, "stderr", stream)
        tell("a word")
        print("another", file=Listener(stream), flush=True)  # type: ignore[call-overload]
    before = Gone.tried
    assert before >= 2  # both were said to nobody
    monkeypatch.setattr(sys, "stdout", Gone())
    print_out("a result")
    assert Gone.tried > before


def test_a_command_whose_reader_goes_away_ends_as_it_would_have(tmp_path: Path) -> None:
    """`2>&1 | true`: the exit code is the command's own, not that of a broken pipe."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "convnext", "report", str(tmp_path)]
    done = subprocess.run(command, stdout=write, stderr=write, check=False)
    os.close(write)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("@sum", "'@sum"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-2+3", "'-2+3"),
        ("\tx", "'\tx"), ("\rx", "'\rx"), ("-1", "-1"), ("+0.5", "+0.5"), ("-1e-3", "-1e-3"), ("cat", "cat"),
        ("'=x", "''=x"), ("'tis", "'tis"), ("", ""), ("a=b", "a=b"), ("|", "|"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula_and_each_comes_back(text: str, cell: str) -> None:
    """Numbers are no formulas; what was put ahead is taken away again."""
    assert csv_cell(text) == cell
    assert csv_value(cell) == text


def test_paths_in_tables_stay_paths() -> None:
    """One that begins like a formula leads to the same file as before."""
    assert csv_path("=a.png") == f".{os.sep}=a.png"
    assert os.path.normpath(csv_path("-b/c.png")) == "-b/c.png"
    assert csv_path("a/=b.png") == "a/=b.png"
    table = to_csv([Prediction(Path("=a.png"), (("=SUM(1)", 0.5), ("-1", 0.25)), ("=SUM(1)",))])
    row = list(csv.reader(io.StringIO(table)))[1]
    assert [row[0], row[1], float(row[2]), row[3], *row[5:]] == ["./=a.png", "'=SUM(1)", 0.5, "-1", "'=SUM(1)", ""]


@pytest.mark.parametrize("value", ["abc", "-1", "0", "1.5", "2 2", "9" * 30, "١"])
@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"])
def test_variables_of_launchers_that_are_no_numbers_are_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable, its value, and what to do."""
    good = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    if value == "0" and name not in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        value = "x"
    for key, text in {**good, name: value}.items():
        monkeypatch.setenv(key, text)
    asked = {"LOCAL_WORLD_SIZE": here, "WORLD_SIZE": partial(planned, 1, 1)}.get(name, _join)
    with pytest.raises(UserError, match=f"the environment variable {name} is"):
        asked()
    monkeypatch.delenv(name)
    assert launched(name, 7) == 7


def _join() -> None:
    with joined("cpu"):
        pass


@pytest.mark.parametrize(
    "text", ["rand-m9-mstd0.5-inc1", "rand", "rand-m9", "rand-n3-p0.5-tweights", "rand-m20-mmax30", "", "rand-t3a"]
)
def test_words_that_timm_knows_are_taken(text: str) -> None:
    """And timm makes a transform of them."""
    recipe = load_recipe(None, [f'augment.randaugment="{text}"'])
    assert recipe.augment.randaugment == text
    if text:
        from convnext.data.feed.augment import rand_augment

        assert rand_augment(text, 32, (0.5, 0.5, 0.5)).ops


@pytest.mark.parametrize(
    "text",
    ["rand-m99", "rand-mabc", "rand-nonsense", "banana", "rand-m9-m8", "rand-", "rand-m11", "random-m9", "rand-tfoo",
     "rand-inc2", "rand-p7", "rand-n0", "rand_m9", "rand-m9-foo", "rand-M9", "rand-m-9", "augmix-m3"],
)  # fmt: skip
def test_words_that_timm_leaves_out_or_falls_over_are_refused(text: str) -> None:
    """Silence would be another training than was asked for."""
    with pytest.raises(RecipeError, match=r"augment\.randaugment = .*must be rand, then .* is not understood by timm"):
        load_recipe(None, [f'augment.randaugment="{text}"'])
