"""The scores of cross-validation are those of scikit-learn, by fold and over all images."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from data.out_of_fold import OutOfFold
from labels import MASKED_FACES, LabelScheme
from report.folds import summarize, summary_lines


def drawn(classes: int) -> OutOfFold:
    generator = np.random.default_rng(3)
    folds = generator.integers(1, 4, 90)
    probabilities = generator.dirichlet(np.ones(classes), 90).astype(np.float32)
    labels = np.where(generator.random(90) < 0.6, probabilities.argmax(1), generator.integers(0, classes, 90))
    return OutOfFold([f"{index:03}.jpg" for index in range(90)], labels, folds, probabilities)


@pytest.mark.parametrize("scheme", [MASKED_FACES, LabelScheme("pets", ("cat", "dog", "cow"))], ids=["faces", "pets"])
def test_mean_spread_and_out_of_fold_scores_are_those_of_scikit_learn(scheme: LabelScheme) -> None:
    found = drawn(scheme.num_classes)
    summary = summarize(found, scheme)
    accuracies, f1s = [], []
    for row in summary["folds"]:
        chosen = found.folds == row["fold"]
        accuracies.append(accuracy_score(found.labels[chosen], found.predicted[chosen]))
        f1s.append(f1_score(found.labels[chosen], found.predicted[chosen], average="macro"))
        assert row["images"] == chosen.sum()
        assert (row["accuracy"], row["f1"]) == pytest.approx((accuracies[-1], f1s[-1]))
    for name, values in (("accuracy", accuracies), ("f1", f1s)):
        assert summary["mean"][name] == pytest.approx(np.mean(values))
        assert summary["std"][name] == pytest.approx(np.std(values, ddof=1))
    assert summary["oof"]["accuracy"] == pytest.approx(accuracy_score(found.labels, found.predicted))
    assert summary["oof"]["f1"] == pytest.approx(f1_score(found.labels, found.predicted, average="macro"))
    assert ("mask_f1" in summary["oof"]) == (scheme is MASKED_FACES)
    assert LabelScheme.from_dict(summary["scheme"]) == scheme


def test_the_log_has_a_line_for_each_fold_and_one_for_all() -> None:
    *lines, last = summary_lines(summarize(drawn(3), LabelScheme("pets", ("cat", "dog", "cow"))))
    assert [line.partition("; ")[0] for line in lines] == ["fold=1", "fold=2", "fold=3"]
    assert [part.partition("=")[0] for part in last.rstrip(";").split("; ")] == [
        *("folds", "images", "mean_accuracy", "mean_f1", "std_accuracy", "std_f1", "oof_accuracy", "oof_f1")
    ]
