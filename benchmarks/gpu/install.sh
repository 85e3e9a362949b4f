# Sourced by gpu.sh. Makes the packages that prepare.sh has put into .gpu/ importable. PYTHON is
# the interpreter that has torch.
SITE=${MMKD_GPU_SITE:-/tmp/mmkd_gpu_site}
if [ ! -f "$SITE/.whole" ]; then
    rm -rf "$SITE"
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
        --target "$SITE" .gpu/wheels/*.whl || return 1
    cp -r .gpu/mmcv/mmcv "$SITE/mmcv"
    TORCH=$("$PYTHON" -c 'import os, torch; print(os.path.dirname(torch.__file__))')
    SUFFIX=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
    BOUND=.gpu/objects/pybind.$("$PYTHON" -c 'import sys; print(sys.implementation.cache_tag)').o
    if [ ! -f "$BOUND" ]; then
        g++ -c -std=c++17 -O1 -fPIC -w -DMMCV_WITH_CUDA -DTORCH_EXTENSION_NAME=_ext \
            -I.gpu/mmcv/common -I"$TORCH/include" -I"$TORCH/include/torch/csrc/api/include" \
            -I/usr/local/cuda/include \
            -I"$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
            -o "$BOUND" .gpu/mmcv/pybind.cpp || return 1
    fi
    # missing.o stands for operators that were not compiled. cudart is the one that torch has loaded.
    CUDART=$(ls "$TORCH"/../nvidia/cu13/lib/libcudart.so* "$TORCH"/lib/libcudart*.so* \
        /usr/local/cuda/lib64/libcudart.so* 2> /dev/null | head -n 1)
    g++ -shared -o "$SITE/mmcv/_ext$SUFFIX" \
        "$BOUND" $(ls .gpu/objects/*.o | grep -v pybind) -L"$TORCH/lib" \
        -lc10 -lc10_cuda -ltorch -ltorch_cpu -ltorch_cuda -ltorch_python $CUDART \
        -Wl,-rpath,"$TORCH/lib" || return 1
    # collect_env of mmengine imports distutils, which Python 3.12 has not.
    ln -s setuptools/_distutils "$SITE/distutils"
    touch "$SITE/.whole"
fi
export PYTHONPATH=$SITE:$PYTHONPATH
"$PYTHON" -W ignore -c 'import mmcv.ops, mmdet, mmseg, mmkd'
