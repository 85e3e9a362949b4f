"""How often is a network right at a point, how sure is it, and with which standard error?"""
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

BINS = 15
"""Number of bins of the reliability curve."""

LEAST = 0.05
"""Smallest probability of a detection of independent classes (sigmoid), as in mmdet's
``test_cfg``."""


class Tally:
    """Accuracy, cross entropy and calibration of logits, added up image by image.

    With softmax, every labelled position counts, background included. With sigmoid (independent
    classes), a hundred positions of the background, which has no column, stand beside each one with
    a class. There, a network may make as many predictions in an image as there are positions with a
    class: those with the highest probabilities; accuracy is the share of them that is right. Cross
    entropy is summed over all positions and columns, and divided by the number of positions with a
    class. The reliability curve is that of probabilities of at least :data:`LEAST`.

    Args:
        use_sigmoid (bool): Whether the classes are independent, or exclude each other (softmax).
        classes (int): Number of named classes.

    Example:
        >>> tally = Tally(use_sigmoid=False, classes=2)
        >>> tally.add(torch.tensor([[4., 0.], [4., 0.]]), torch.tensor([0, 1]))
        >>> tally.result()['accuracy']
        50.0
    """

    def __init__(self, use_sigmoid: bool, classes: int) -> None:
        self.use_sigmoid, self.classes = use_sigmoid, classes
        self._images: List[List[float]] = []
        self._bins = torch.zeros(3, BINS, dtype=torch.float64)
        self._of_class = torch.zeros(2, classes, dtype=torch.float64)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add one image.

        Args:
            logits (Tensor): (R, C).
            labels (Tensor): int64 (R,): columns; ``classes`` or more for background; negative for
                positions to leave out.
        """
        keep = labels >= 0
        logits, labels = logits[keep].float(), labels[keep]
        if self.use_sigmoid:
            scores = logits.sigmoid()
            sure, guess = scores.max(1) if len(scores) else (scores.new_zeros(0), labels)
            self._calibrate(sure, guess == labels, sure >= LEAST)
            named = labels < self.classes
            count = int(named.sum())
            truth = one_hot(labels.clamp(max=logits.shape[1]), logits.shape[1] + 1)[:, :-1]
            entropy = binary_cross_entropy_with_logits(logits, truth.float(), reduction='none')
            best = scores.flatten().topk(min(count, scores.numel())).indices
            right = torch.zeros(scores.numel(), dtype=torch.float64)
            right[best.cpu()] = truth.flatten()[best].double().cpu()
            right = right.view(scores.shape).sum(1)[named.cpu()]
            labels = labels[named]
        else:
            labels = labels.clamp(max=logits.shape[1] - 1)
            sure, guess = logits.softmax(1).max(1) if len(logits) else (
                logits.new_zeros(0), labels)
            self._calibrate(sure, guess == labels, torch.ones_like(labels, dtype=torch.bool))
            entropy = cross_entropy(logits, labels, reduction='none')
            right = (guess == labels).double().cpu()
        labels = labels.cpu()
        if len(labels):
            self._images.append([float(len(labels)), right.sum().item(), entropy.sum().item()])
        is_named = labels < self.classes
        for row, weights in enumerate((torch.ones_like(right), right)):
            self._of_class[row] += torch.bincount(
                labels[is_named], weights[is_named], self.classes)

    def _calibrate(self, sure: Tensor, right: Tensor, counts: Tensor) -> None:
        sure, right = sure[counts].double().cpu(), right[counts].double().cpu()
        number = (sure * BINS).long().clamp(max=BINS - 1)
        for row, weights in enumerate((torch.ones_like(sure), sure, right)):
            self._bins[row] += torch.bincount(number, weights, BINS)

    def result(self) -> Dict[str, Any]:
        """The figures.

        Returns:
            dict: ``positions``, ``images``; ``accuracy`` in per cent; ``cross_entropy`` in nats per
            position (with a class), and ``error``, its standard error over images; ``ece``, the
            expected calibration error in per cent; ``curve``, per bin with positions (mean
            confidence, share that is right, positions); ``by_class``, accuracy in per cent by
            number of the class, None for a class without positions. {} if there is no position.
        """
        if not self._images:
            return {}
        count, right, entropy = torch.tensor(self._images, dtype=torch.float64).unbind(1)
        mean = (entropy.sum() / count.sum()).item()
        totals, sure, hits = self._bins
        filled = totals > 0
        ece = ((sure - hits).abs().sum() / totals.sum().clamp(min=1)).item()
        of_all, of_right = self._of_class.tolist()
        return dict(
            images=len(count), positions=int(count.sum()),
            accuracy=100 * (right.sum() / count.sum()).item(), cross_entropy=mean,
            error=error_of_ratio(entropy, count), ece=100 * ece,
            curve=[[s / n, h / n, int(n)] for n, s, h in zip(*(
                row[filled].tolist() for row in (totals, sure, hits)))],
            by_class=[100 * b / a if a else None for a, b in zip(of_all, of_right)])


def advantage(one: Tally, other: Tally) -> Dict[str, List[float]]:
    """How much better one network is than another one that was measured on the same images.

    The differences are paired by image: both networks see the same positions, so what makes an
    image hard for both does not count.

    Args:
        one (Tally): The network that may be better.
        other (Tally): The other one, with the same labels in the same order.

    Returns:
        dict: By ``accuracy`` (per cent) and ``cross_entropy`` (nats), the difference, positive if
        ``one`` is better, and its standard error over images; {} for fewer than two images.

    Example:
        >>> logits, labels = torch.tensor([[4., 0.], [0., 4.]]), torch.tensor([0, 0])
        >>> one, other = Tally(False, 2), Tally(False, 2)
        >>> for image in range(2):
        ...     one.add(logits[:1], labels[:1])
        ...     other.add(logits[image:image + 1], labels[:1])
        >>> advantage(one, other)['accuracy']
        [50.0, 50.0]
    """
    sides = [torch.tensor(tally._images, dtype=torch.float64) for tally in (one, other)]
    if len(sides[0]) < 2:
        return {}
    if len(sides[0]) != len(sides[1]) or not torch.equal(*(side[:, 0] for side in sides)):
        raise ValueError('the two networks were not measured on the same images; measure both at '
                         'the same positions')
    count = sides[0][:, 0]
    differences = sides[0] - sides[1]
    found = {}
    for name, values in (('accuracy', 100 * differences[:, 1]),
                         ('cross_entropy', -differences[:, 2])):
        error = error_of_ratio(values, count)
        assert error is not None  # of two images or more
        found[name] = [(values.sum() / count.sum()).item(), error]
    return found


def error_of_ratio(values: Tensor, counts: Tensor) -> Optional[float]:
    """Standard error of sum(values) / sum(counts) over independent images, to first order; None for
    a single image.

    Example:
        >>> error_of_ratio(torch.tensor([1., 3.]), torch.ones(2))
        1.0
    """
    if len(values) < 2:
        return None
    mean = values.sum() / counts.sum()
    rest = values - mean * counts
    return ((rest.square().sum() / (len(values) - 1) * len(values)).sqrt() / counts.sum()).item()
