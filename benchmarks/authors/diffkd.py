"""Numbers of DiffKD: a clone of https://github.com/hunto/image_classification_sota is given on the
command line."""
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from importing import fill, load, some
from recording import Case, write

clone = sys.argv[1]
sys.path.insert(0, str(Path(clone) / 'lib/models/losses'))
from diffkd import DiffKD  # noqa: E402

divergence = load(Path(clone) / 'lib/models/losses/kl_div.py', 'authors_kl').KLDivergence()
cases = []
for kind, channels, latent, size in (('features', (3, 10), 8, (3, 4)),
                                     ('logits', (4, 4), 0, (1, 1))):
    model = DiffKD(*channels, kernel_size=3 if latent else 1, use_ae=bool(latent),
                   ae_channels=latent)
    state = fill(model, seed=10)
    # too many numbers to store; the test makes them in the same way
    del state['model.time_embedding.weight']
    rows = model.model.time_embedding.weight
    rows.data = torch.arange(rows.numel(), dtype=torch.float64).sin().view_as(rows)
    images = 3
    student = some(images, channels[0], *size, seed=0).requires_grad_()
    teacher = some(images, channels[1], *size, seed=1)
    noises = [some(images, latent or channels[1], *size, seed=seed) for seed in (2, 3)]
    times = torch.tensor([7, 420, 999])
    with patch.object(torch, 'randn', side_effect=noises), \
            patch.object(torch, 'randint', return_value=times):
        refined, target, noise, reconstruction = model(student, teacher)
    compared = torch.nn.functional.mse_loss(refined, target) if latent else divergence(
        refined, target)
    gradient, = torch.autograd.grad(compared, student)
    outputs = dict(denoised=compared, noise=noise, gradient=gradient)
    if latent:
        outputs['reconstruction'] = reconstruction
    cases.append(Case(dict(kind=kind, latent=latent),
                      dict(student=student, teacher=teacher, start=noises[0], noise=noises[1],
                           times=times, state=state), outputs))
write('diffkd', 'https://github.com/hunto/image_classification_sota', clone, cases)
