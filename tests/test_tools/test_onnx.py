"""A published student is exported to ONNX without mmkd, and gives the plain student's outputs."""
import subprocess
import sys

import pytest
import torch
from conftest import build, retinanet, save_teacher, segmentor
from mmengine.config import Config
from support.exporting import END, WITHOUT_MMKD
from support.neighbours import needs
from support.tools import run_tool

needs('onnx', 'onnxscript', 'onnxruntime')

SCRIPT = WITHOUT_MMKD + """
import onnxruntime
image = torch.load('image.pth', weights_only=True)
torch.onnx.export(raw, (image,), 'model.onnx', input_names=['image'], dynamo=True)
found = onnxruntime.InferenceSession('model.onnx').run(None, {'image': image.numpy()})
torch.save([torch.from_numpy(one) for one in found], 'outputs.pth')
""" + END


@pytest.mark.slow
@pytest.mark.parametrize(('scope', 'model'), [('mmseg', segmentor), ('mmdet', retinanet)])
def test_onnx_of_a_published_student(scope, model, tmp_path):
    Config(dict(default_scope=scope, model=model())).dump(str(tmp_path / 'model.py'))
    save_teacher(tmp_path / 'epoch_1.pth', model(), scope=scope)
    run_tool('publish_student.py', 'model.py', 'epoch_1.pth', '--out', 'out', cwd=tmp_path)
    path, = (tmp_path / 'out').glob('*.pth')
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.save(image, tmp_path / 'image.pth')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', SCRIPT, str(path)],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plain = build(model(), scope).eval()
    plain.load_state_dict(torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['state_dict'])
    with torch.no_grad():
        out = plain(image, mode='tensor')
    expected = [one for level in out for one in level] if isinstance(out, tuple) else [out]
    found = torch.load(tmp_path / 'outputs.pth', weights_only=True)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
