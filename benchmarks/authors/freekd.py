"""What FreeKD's code returns: the loss, the module of the first stage, and the wavelet transform.

It needs the packages pytorch_wavelets and PyWavelets, which mmkd does not.

    git clone https://github.com/Gumpest/FreeKD clone
    pip install pytorch_wavelets PyWavelets
    python benchmarks/authors/freekd.py clone
"""
import sys

import torch
from maskd import features, load, random_state
from recording import Case, write

SHAPES = ((2, 2, 8, 6), (1, 2, 11, 5), (1, 2, 1, 3))


def main(clone: str) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    theirs = load(clone, 'mmrazor/models/losses/freekd.py')
    cases = []
    loss = theirs.FreeKDLoss([2] * 3, 2)
    states = [random_state(one) for one in loss.mask_modules]
    student, teacher = features(*SHAPES), features(*SHAPES)
    for level in student:
        level.requires_grad_()
    value = loss(student, teacher)
    cases.append(Case(
        dict(kind='detector', tokens=2),
        dict(student=student, teacher=teacher, tokens=[one['mask_token'] for one in states]),
        dict(value=value, gradients=torch.autograd.grad(value, student))))

    for shape in SHAPES[::2]:
        module = theirs.MaskModule(2, 2)
        tokens = random_state(module)['mask_token']
        one, = features(shape)
        new, dice = module(one)
        new = new[:, :, :shape[2], :shape[3]]
        factor = torch.randn_like(new)
        gradient, = torch.autograd.grad((new * factor).sum() + dice, [module.mask_token])
        cases.append(Case(dict(kind='stage 1', tokens=2),
                          dict(features=one, tokens=tokens, factor=factor),
                          dict(new=new, dice=dice, gradient=gradient)))

    for shape in SHAPES:
        one, = features(shape)
        low, high = module.xfm(one)
        cases.append(Case(dict(kind='transform'), dict(features=one), dict(low=low, high=high)))
    write('freekd', 'https://github.com/Gumpest/FreeKD', clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
