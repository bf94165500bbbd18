"""Losses, targets and quick metrics of classification, against torch, timm and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score, log_loss

from convnext.tasks.classify.kind import task_for
from convnext.tasks.classify.meaning import counts
from convnext.tasks.classify.multi import MultiLabel
from convnext.tasks.classify.single import SingleLabel
from convnext.tasks.classify.targets import read_dataset
from convnext.tasks.classify.weights import class_weights
from convnext.tasks.records import Records

NAMES = ("a", "b", "c")


def records(values: np.ndarray, truth: np.ndarray) -> Records:
    """Probabilities and labels, as judging keeps them."""
    return Records({"values": values, "truth": truth})


def test_the_loss_is_cross_entropy_with_label_smoothing() -> None:
    """Soft targets give torch's own smoothed cross-entropy, and timm's."""
    from timm.loss import LabelSmoothingCrossEntropy

    logits, labels = torch.randn(8, 3), torch.randint(0, 3, (8,))
    task = SingleLabel(NAMES, 0.1)
    loss = task.loss(logits, task.targets(labels))
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-5)
    assert loss.item() == pytest.approx(LabelSmoothingCrossEntropy(0.1)(logits, labels).item(), rel=1e-5)
    torch.testing.assert_close(task.probabilities(logits).sum(1), torch.ones(8))


def test_class_weights_share_the_loss_out() -> None:
    """At 1 every class has the same share, at 0 none is weighted, the mean over the pictures is always 1."""
    counts = [900, 90, 10]
    full = class_weights(counts, 1.0)
    assert [w * c for w, c in zip(full, counts, strict=True)] == pytest.approx([1000 / 3] * 3)
    half = class_weights(counts, 0.5)
    assert sum(w * c for w, c in zip(half, counts, strict=True)) == pytest.approx(1000)
    assert half[2] / half[0] == pytest.approx(90**0.5)
    assert class_weights(counts, 0.0) == ()
    assert class_weights([5, 0], 1.0) == pytest.approx((1.0, 1.0))
    logits, labels = torch.randn(8, 3), torch.randint(0, 3, (8,))
    task = SingleLabel(NAMES, 0.0, full)
    expected = F.cross_entropy(logits, labels, weight=torch.tensor(full), reduction="sum") / 8
    assert task.loss(logits, task.targets(labels)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_several_labels_use_binary_cross_entropy() -> None:
    """Targets drawn towards one half by the smoothing; the loss is torch's."""
    logits, labels = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    task = MultiLabel(NAMES, 0.2)
    assert task.targets(labels).unique().tolist() == pytest.approx([0.1, 0.9])
    expected = F.binary_cross_entropy_with_logits(logits, labels * 0.8 + 0.1)
    assert task.loss(logits, task.targets(labels)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_quick_metrics_are_scikit_learns() -> None:
    """Loss, top-1, macro F1; micro F1 and exact match for several labels; an empty split is no crash."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 50).astype(np.float32)
    y = rng.integers(0, 3, 50)
    found = SingleLabel(NAMES).metrics(records(p, y))
    assert found["top1"] == pytest.approx(accuracy_score(y, p.argmax(1)))
    assert found["macro_f1"] == pytest.approx(f1_score(y, p.argmax(1), average="macro"))
    assert found["loss"] == pytest.approx(
        log_loss(y, p / p.sum(1, keepdims=True, dtype=np.float64), labels=[0, 1, 2]), rel=1e-4
    )
    q, z = rng.random((50, 3)).astype(np.float32), rng.integers(0, 2, (50, 3))
    many = MultiLabel(NAMES).metrics(records(q, z))
    assert many["micro_f1"] == pytest.approx(f1_score(z, q >= 0.5, average="micro"))
    assert many["exact_match"] == pytest.approx(accuracy_score(z, q >= 0.5))
    assert SingleLabel(NAMES).metrics(records(p[:0], y[:0]))["top1"] == 0.0
    assert MultiLabel(NAMES).metrics(records(q[:0], z[:0]))["micro_f1"] == 0.0


def test_the_verdict_names_the_trivial_answer() -> None:
    """The most frequent label of what is judged, or the most frequent set of labels in training."""
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    result = task_for(("a", "b"), False).judge(records(p, np.array([0, 1, 1])), {"majority": [0]})
    assert result["majority_class"] == "b"  # "a" is what training had most of
    assert result["majority_top1"] == pytest.approx(2 / 3)
    assert result["top1"] == pytest.approx(2 / 3)
    many = task_for(("a", "b"), True).judge(records(p, np.array([[1, 0], [0, 1], [1, 1]])), {"majority": [0]})
    assert many["exact_match_baseline"] == pytest.approx(1 / 3)


def test_balance_weighs_rare_labels_up(tmp_path: object) -> None:
    """By the root of the odds at 0.5; a label that all pictures have weighs 1."""
    from pathlib import Path

    from PIL import Image

    from convnext.config import load_recipe
    from convnext.train.parts import make_parts

    root = Path(str(tmp_path))
    rows = ["path,label"]
    for i in range(12):
        Image.effect_noise((40, 40), 20 + i).save(root / f"{i}.png")
        rows.append(f"{i}.png,{'a|b' if i % 2 else 'a'}")
    (root / "d.csv").write_text("\n".join(rows))
    recipe = load_recipe(None, ["train.class_balance=0.5", "data.size=32", "data.eval_size=32"])
    dataset = read_dataset(root / "d.csv")
    weights = make_parts(recipe, dataset).task.weights  # type: ignore[attr-defined]
    pictures = len(dataset.splits["train"])
    odds = [(pictures - n) / n for n in counts(dataset, "train")]
    assert weights.tolist() == pytest.approx([1.0 if o == 0 else o**0.5 for o in odds])
