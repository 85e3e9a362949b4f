"""Print the device and the versions of the packages."""
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

found = []
for name in ('torch', 'triton', 'numpy', 'mmengine', 'mmdet', 'mmsegmentation'):
    try:
        found.append(f'{name} {version(name)}')
    except PackageNotFoundError:
        found.append(f'{name} missing')
device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
print(f'{device}, CUDA {torch.version.cuda}, Python {platform.python_version()}, '
      f'{", ".join(found)}; float32 convolutions in TF32: {torch.backends.cudnn.allow_tf32}, '
      f'matrix products: {torch.backends.cuda.matmul.allow_tf32}; cudnn.benchmark: '
      f'{torch.backends.cudnn.benchmark}\n')
