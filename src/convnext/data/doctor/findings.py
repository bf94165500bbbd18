"""What the doctor says (findings, each with its cases and advice) and looks at (pictures with all their facts)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from convnext.data.sources.check import Facts

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Case:
    """One instance of a finding: a file, or several that belong together (copies, look-alikes), and a remark."""

    files: tuple[str, ...]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the user should know about the data set.

    Attributes:
        level: "error" spoils training or its judgement, "warning" may, "note" is good to know.
        kind: a stable name for programs, such as "label_conflict".
        message: what was found, in one sentence.
        advice: what to do about it.
        cases: where; the gravest first.
    """

    level: Level
    kind: str
    message: str
    advice: str
    cases: tuple[Case, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """All files concerned, each once, relative to the data set where they lie in it."""
        return tuple(dict.fromkeys(name for case in self.cases for name in case.files))

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True)
class Overview:
    """What the targets of a data set are, at a glance.

    Attributes:
        told: in a few words, as they stand after "in": "5 classes".
        rows: a name, and a number for each split.
        facts: the same for programs.
        totals: whether the numbers of a column may be added up.
    """

    told: str = ""
    rows: Sequence[tuple[Any, ...]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    totals: bool = True


@dataclass(frozen=True, slots=True)
class Picture:
    """One readable picture: its name relative to the data set, its target, its split, and what the check found."""

    name: str
    target: Any
    split: str
    facts: Facts

    @property
    def short_side(self) -> int:
        """Pixels."""
        return min(self.facts.width, self.facts.height)

    @property
    def long_side(self) -> int:
        """Pixels."""
        return max(self.facts.width, self.facts.height)
