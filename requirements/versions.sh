# Versions that tools/setup_env.sh installs one by one, before requirements/runtime.txt.
TORCH=2.13.0
MMCV_OPENMMLAB=mmcv==2.1.0
MMCV_ONEDL=onedl-mmcv==2.3.6
BUILD_TOOLS="setuptools==80.9.0 wheel==0.48.0 ninja==1.13.2"
