"""Can tools/label.py do what it is asked for? Checked before the first image."""
from collections import Counter
from typing import Any, Dict, Optional, Sequence, Tuple

from label_files import map_name

from mmkd.core.names import joined
from mmkd.data.pseudo_labels import Selection, removed
from mmkd.files.classes import doubled
from mmkd.networks.predicting import is_classifier, is_segmentor
from mmkd.networks.prompts import check_prompts, texts_of
from mmkd.points import TextDetector
from mmkd.points.prompt import problem_of, set_prompt


def check_kind(model: Any, selection: Selection, names: Sequence[str]) -> None:
    """Check that a model predicts labels, and that rules and images are for its kind.

    Args:
        model (nn.Module): The model.
        selection (Selection): The rules.
        names (Sequence[str]): Paths of the images in their folder.

    Raises:
        SystemExit: If a check fails.
    """
    kind = type(model).__name__
    if is_classifier(model):
        raise SystemExit(f'labels are boxes, masks or label maps, but the model, {kind}, is a '
                         'classifier; give a detector of mmdet or a segmentor of mmseg')
    if not is_segmentor(model):
        return
    if selection.per_class is not None or selection.ignore_thr is not None:
        raise SystemExit('--per-class and --ignore-thr are for objects, but the model, '
                         f'{kind}, predicts one label for each pixel; leave them out')
    counts = Counter(map(map_name, names))
    shared = next((name for name, count in counts.items() if count > 1), None)
    if shared is not None:
        same = [name for name in names if map_name(name) == shared]
        raise SystemExit(f'the images {joined(same)} would have one label map, {shared}; give '
                         'images of one folder names that differ not only in their endings, or '
                         'list those to label in a .txt file')


def note_own_threshold(own: Optional[Tuple[str, float]], selection: Selection) -> None:
    """Say if the model's own config, its key and value, removes scores that are asked for."""
    said = removed(selection.least, own, 'the model')
    if own is not None and said:
        print(f'WARNING: {said}; add --cfg-options {own[0]}={selection.least}')


def thresholds_in(words: Sequence[str]) -> Any:
    """The value of --score-thr: a number, or a dict by class."""
    try:
        if len(words) == 1 and '=' not in words[0]:
            return float(words[0])
        pairs = [word.rsplit('=', 1) for word in words]
        check_once('--score-thr', [pair[0] for pair in pairs])
        found = {name: float(value) for name, value in pairs}
        if '' in found:
            raise ValueError('no class')
        return found
    except ValueError:  # a word has no sign, no name, or no number
        raise SystemExit(f'--score-thr takes a number, or CLASS=NUMBER for each class, but got '
                         f'{" ".join(words)}; write for instance 0.5') from None


def check_once(option: str, names: Sequence[str]) -> None:
    """Refuse a class that an option names twice."""
    twice = [name for name in doubled(names) if name]
    if twice:
        raise SystemExit(f'{option} names {joined(twice)} twice; write each class once')


def ask_for(model: Any, classes: Sequence[str],
            prompts: Optional[Sequence[str]]) -> Dict[str, Any]:
    """Ask a model with a text prompt for classes.

    Args:
        model (nn.Module): The model.
        classes (Sequence[str]): Names of the classes.
        prompts (Sequence[str], optional): The value of --prompts: a text for each class, in order,
            or CLASS=TEXT.

    Returns:
        dict: The texts, as a setting of the labels; {} for other models.

    Raises:
        SystemExit: If the model has no text prompt, or the texts are not valid.
    """
    if not TextDetector.fits(model):
        if prompts:
            raise SystemExit('--prompts is for models with a text prompt, but the model is a '
                             f'{type(model).__name__}; leave it out')
        return {}
    stated: Any = prompts
    plain = [one for one in prompts or () if '=' not in one]
    if prompts and not plain:
        check_once('--prompts', [one.split('=', 1)[0] for one in prompts])
        stated = dict(one.split('=', 1) for one in prompts)
    elif prompts and len(plain) < len(prompts):
        raise SystemExit(f'--prompts takes a text for each class, in order, or CLASS=TEXT, but got '
                         f'both: {joined(map(repr, prompts))}; write each as CLASS=TEXT')
    check_prompts(stated, '--prompts')
    texts = texts_of(classes, stated, '--prompts')
    set_prompt(model, texts)
    problem = problem_of(model)
    if problem:
        raise SystemExit(problem.replace('`prompts`', '--prompts').replace(
            '`test_cfg.chunked_size`', '`model.test_cfg.chunked_size`'))
    return dict(prompts=texts)


def of_all(selection: Selection, classes: Sequence[str],
           wanted: Optional[Sequence[str]]) -> Selection:
    """Check the names of classes. Thresholds of classes that are not written may be left out."""
    unknown = [name for name in wanted or () if name not in classes]
    if unknown:
        raise SystemExit(f'--classes {joined(unknown)}: the model has {joined(classes)}; write '
                         'names of these')
    by_name = selection.score_thr
    if isinstance(by_name, dict) and wanted:
        by_name = {**{name: 1. for name in classes if name not in wanted}, **by_name}
    selection = Selection(by_name, selection.per_class, selection.ignore_thr, selection.min_size)
    selection.thresholds(classes)
    return selection
