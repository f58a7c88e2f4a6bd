"""Agreement of verdicts with gold labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from pipelines.evaluation.scoring.figures import Figures


class Agreement(Figures):
    """Agreement with gold labels; see `agreement.py`."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    kappa: float | None
    majority_class: float


def agreement(gold: Sequence[str], predicted: Sequence[str]) -> Agreement:
    """Accuracy, balanced accuracy, macro-F1, Cohen's kappa, and the share of the most frequent gold label.

    An unread verdict is a label of its own: wrong everywhere, and never a class to be averaged over.
    """
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, recall_score

    truth, guess = [str(label) for label in gold], [str(label) for label in predicted]
    classes = sorted(set(truth))
    settings = {"labels": classes, "average": "macro", "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kappa of two constant raters is 0/0, given as null below
        kappa = float(cohen_kappa_score(truth, guess)) if len({*truth, *guess}) > 1 else None
    return Agreement(
        accuracy=float(accuracy_score(truth, guess)),
        # The mean of the classes' recalls: balanced accuracy without scikit-learn's warning about UNPARSED.
        balanced_accuracy=float(recall_score(truth, guess, **settings)),
        macro_f1=float(f1_score(truth, guess, **settings)),
        kappa=kappa,
        majority_class=max(truth.count(label) for label in classes) / len(truth),
    )
