"""Which prompt does a model with text input get, and which tokens represent which class?"""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

ATTRIBUTE = 'mmkd_prompt'
"""Attribute of a model for its :class:`Prompt`. No module and no buffer, so it is in no
checkpoint."""


class Prompt:
    """The prompts of a GLIP or Grounding DINO of mmdet, one per class.

    The texts are joined, split into tokens, and assigned to tokens by the model's own methods, so
    that the scores of the classes are those of its own ``predict``.

    Args:
        model (nn.Module): The model.
        texts (Sequence[str]): One text per class.

    Raises:
        ValueError: If a text has no token, two texts are equal, or they have more tokens than the
            text encoder reads.
    """

    def __init__(self, model: Any, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self.kind = type(model).__name__
        size = (model.test_cfg or {}).get('chunked_size', -1)
        size = size if size > 0 else len(self.texts)
        self.parts = [self.texts[start:start + size] for start in range(0, len(self.texts), size)]
        limit = most_tokens(model)
        cleaned: List[str] = []
        for part in self.parts:
            _, self.caption, spans, names = model.get_tokens_and_prompts(part, True)
            cleaned += [name.strip().lower() for name in names]
            tokenized = model.language_model.tokenizer([self.caption], return_tensors='pt')
            count = tokenized.input_ids.shape[1]
            if count > limit:
                raise ValueError(
                    f'the prompts of {len(part)} classes have {count} tokens, but the text encoder '
                    f'of {self.kind} reads {limit}; write shorter `prompts`, or, for labels '
                    'alone, set `test_cfg.chunked_size`, a number of classes, in its config')
            bare = [text for text, name in zip(part, names) if not name.strip()]
            if not bare:
                found, _ = model.get_positive_map(tokenized, spans)
                self.tokens = tuple(tuple(found[label]) for label in sorted(found))
                bare = [text for text, tokens in zip(part, self.tokens) if not tokens]
            if bare:
                raise ValueError(f'the prompt {bare[0]!r} has no token (text in brackets is left '
                                 'out); write another one in `prompts`')
        twice = {one: [text for text, other in zip(self.texts, cleaned) if other == one]
                 for one in cleaned if cleaned.count(one) > 1}
        for name, same in twice.items():
            raise ValueError(f'the prompts {" and ".join(map(repr, same[:3]))} are one text for '
                             f'{self.kind}, {name!r}; write different `prompts`')
        self._key: Any = None
        self._kept: Dict[str, Tensor] = {}

    @property
    def is_in_parts(self) -> bool:
        """Whether the model is asked several times, for some of the classes each
        (`chunked_size`)."""
        return len(self.parts) > 1

    def encoded(self, model: Any, count: int) -> Dict[str, Tensor]:
        """The output of the text encoder for a batch.

        The text is encoded once, and again if the model has moved. With gradient it is encoded
        in each call.

        Args:
            model (nn.Module): The model.
            count (int): Number of images.

        Returns:
            dict[str, Tensor]: As the model's own ``predict`` passes it on; (count, ...).
        """
        weight = next(model.language_model.parameters())
        key = weight.device, weight.dtype, torch.is_autocast_enabled()
        if torch.is_grad_enabled() or key != self._key:
            found = dict(model.language_model([self.caption]))
            if getattr(model, 'text_feat_map', None) is not None:
                found['embedded'] = model.text_feat_map(found['embedded'])
            if torch.is_grad_enabled():
                return _repeated(found, count)
            self._key, self._kept = key, found
        return _repeated(self._kept, count)

    def class_logits(self, tokens: Tensor) -> Tensor:
        """Class logits from the logits of the tokens.

        Their sigmoid is the score of ``predict``: the mean of the probabilities of the tokens of a
        class.

        Args:
            tokens (Tensor): (..., tokens).

        Returns:
            Tensor: (..., C), float32.
        """
        # Not by the logarithm of the mean, which would be infinite for unlikely classes.
        tokens = tokens.float()
        classes = []
        for numbers in self.tokens:
            own = tokens[..., numbers[0]:numbers[-1] + 1] if (
                len(numbers) == numbers[-1] - numbers[0] + 1) else tokens[..., list(numbers)]
            classes.append(logsigmoid(own).logsumexp(-1) - logsigmoid(-own).logsumexp(-1))
        return torch.stack(classes, -1)


def _repeated(found: Dict[str, Tensor], count: int) -> Dict[str, Tensor]:
    # Copies, because some layers write into their input.
    return {name: tensor.repeat(count, *[1] * (tensor.dim() - 1))
            for name, tensor in found.items()}


def most_tokens(model: Any) -> int:
    """Length of the longest prompt in tokens that no part of a model cuts."""
    limits = [model.language_model.max_tokens]
    branches = getattr(model.bbox_head, 'cls_branches', None)
    limits.append(branches[0].max_text_len if branches is not None else 256)
    body = getattr(model.language_model.language_backbone, 'body', None)
    config = getattr(getattr(body, 'model', None), 'config', None)
    limits.append(getattr(config, 'max_position_embeddings', limits[0]))
    return int(min(limits))


def set_prompt(model: Any, texts: Sequence[str]) -> None:
    """Set the prompt of a model.

    Unsuitable texts are not an error here, because features can be compared without a prompt. The
    error is raised when a prediction is requested.

    Args:
        model (nn.Module): A GLIP or Grounding DINO.
        texts (Sequence[str]): One text per class.
    """
    before = getattr(model, ATTRIBUTE, None)
    if isinstance(before, Prompt) and before.texts == tuple(texts):
        return
    try:
        setattr(model, ATTRIBUTE, Prompt(model, texts))
    except ValueError as error:
        setattr(model, ATTRIBUTE, str(error))


def prompt_of(model: Any) -> Tuple[Optional[Prompt], str]:
    """The prompt of a model, None if it has none; and the reason, '' if it was never set."""
    found = getattr(model, ATTRIBUTE, '')
    return (found, '') if isinstance(found, Prompt) else (None, found)


def problem_of(model: Any) -> str:
    """Why a model has no valid prompt, for a message; '' if it has one."""
    prompt, problem = prompt_of(model)
    return '' if prompt is not None else problem or (
        f'a {type(model).__name__} needs the class names of the student for its prompt, but they '
        'are not known; write `classes=[...]` in the mmkd.Distiller')


def add_prompt(model: Any, data_samples: Sequence[Any]) -> None:
    """Add the prompt of a model to samples, for its own ``predict``; nothing if it has none."""
    prompt, _ = prompt_of(model)
    if prompt is not None:
        for sample in data_samples:
            # With the flag each text is a class; no package looks for nouns in it.
            sample.set_metainfo(dict(text=prompt.texts, custom_entities=True))
