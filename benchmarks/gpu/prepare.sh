#!/usr/bin/env bash
# Makes .gpu/ with the files to run benchmarks/gpu.sh on a GPU machine without a network.
#
#     benchmarks/gpu/prepare.sh            # once, half an hour on one core; needs nvcc 13.0, data/bccd
#     benchmarks/gpu.sh                    # on the GPU machine, in a checkout with .gpu/
#
# The machine is expected to have Python 3.12, torch 2.11 for CUDA 13.0, and g++ with Python's
# headers. mmengine, mmdet, mmseg and their dependencies are copied as wheels. Except for pybind.cpp,
# mmcv's operators do not depend on the version of Python: the objects are compiled here, for compute
# capability 9.0, and linked on the GPU machine. Only the CUDA operators of RetinaNet, Faster and
# Cascade R-CNN, Deformable DETR and Mask2Former are included, and NMS and RoIAlign for the CPU.
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT=$PWD/.gpu
DOWNLOADS=${MMKD_GPU_DOWNLOADS:-$HOME/.cache/mmkd/gpu}
PIP=${PIP:-.venv/bin/pip}
TORCH=2.11.0
FOR_CUDA="nms roi_align focal_loss ms_deform_attn deform_conv modulated_deform_conv"
[ -d data/bccd ] || { echo 'no data/bccd, on which gpu.sh trains; see docs/results/bccd' >&2; exit 1; }
mkdir -p "$OUT/wheels" "$OUT/objects" "$DOWNLOADS"

platforms() {
    for one in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
        echo --platform ${one}_x86_64
    done
}

fetch() {  # folder, packages; downloads wheels for Python 3.12 without dependencies
    local folder=$1
    shift
    for package; do
        "$PIP" download -q --no-deps --only-binary=:all: --python-version 3.12 \
            --implementation cp $(platforms) -d "$folder" "$package"
    done
}

echo 'wheels of the packages'
fetch "$OUT/wheels" mmengine==0.10.7 mmdet==3.3.0 mmsegmentation==1.2.2 addict yapf platformdirs \
    termcolor prettytable ftfy wcwidth pycocotools shapely terminaltables setuptools==80.9.0 \
    mmrazor==1.0.0

echo 'headers of torch and CUDA, and the source of mmcv'
[ -d "$DOWNLOADS/include/torch" ] || {
    fetch "$DOWNLOADS" torch==$TORCH nvidia-cublas==13.* 'nvidia-cusolver==12.*' 'nvidia-cusparse==12.*'
    .venv/bin/python - "$DOWNLOADS" <<'PYTHON'
import glob, sys, zipfile
for path in glob.glob(f'{sys.argv[1]}/*.whl'):
    with zipfile.ZipFile(path) as file:
        file.extractall(f'{sys.argv[1]}/include', [
            name for name in file.namelist() if '/include/' in name])
PYTHON
    rm "$DOWNLOADS"/*.whl
}
[ -d "$DOWNLOADS/mmcv-2.1.0" ] || {
    "$PIP" download -q --no-deps --no-binary mmcv --no-build-isolation -d "$DOWNLOADS" mmcv==2.1.0
    tar -xf "$DOWNLOADS/mmcv-2.1.0.tar.gz" -C "$DOWNLOADS"
}

SOURCE=$DOWNLOADS/mmcv-2.1.0/mmcv/ops/csrc
INCLUDE="-I$SOURCE -I$SOURCE/common -I$SOURCE/common/cuda -I$DOWNLOADS/include/torch/include
 -I$DOWNLOADS/include/torch/include/torch/csrc/api/include -I$DOWNLOADS/include/nvidia/cu13/include
 -I${CUDA_HOME:-/usr/local/cuda}/include"
FLAGS="-std=c++17 -O2 -DMMCV_WITH_CUDA -D_GLIBCXX_USE_CXX11_ABI=1"

compile() {  # object, compiler and arguments; skips objects that exist
    local object=$OUT/objects/$1
    shift
    [ -f "$object" ] && return
    echo "  $(basename "$object")"
    "$@" -c $FLAGS $INCLUDE -o "$object.part"
    mv "$object.part" "$object"
}

echo 'operators for CUDA'
for name in $FOR_CUDA; do
    # torch sets these macros for extensions.
    compile "$name.cu.o" nvcc -arch=sm_90 -Xcompiler -fPIC -w --expt-relaxed-constexpr \
        -D__CUDA_NO_HALF_OPERATORS__ -D__CUDA_NO_HALF_CONVERSIONS__ \
        -D__CUDA_NO_BFLOAT16_CONVERSIONS__ -D__CUDA_NO_HALF2_OPERATORS__ "$SOURCE/pytorch/cuda/${name}_cuda.cu"
done
compile cudabind.o g++ -fPIC -w "$SOURCE/pytorch/cuda/cudabind.cpp"
for name in nms roi_align; do  # what can be compared is found on the CPU
    compile "$name.cpu.o" g++ -fPIC -w "$SOURCE/pytorch/cpu/$name.cpp"
done

echo 'what calls them'
# Sources are combined, because parsing torch's headers takes most of the time.
ls "$SOURCE"/pytorch/*.cpp | grep -v pybind.cpp | split -n r/4 - "$OUT/objects/part_"
for part in "$OUT"/objects/part_a?; do
    sed 's/.*/#include "&"/' "$part" > "$part.cpp"
    compile "$(basename "$part").o" g++ -fPIC -w "$part.cpp"
    rm -f "$part" "$part.cpp"
done

# If Python 3.12 is installed, pybind.cpp is compiled here; otherwise on the GPU machine.
for python in python3.12 "$HOME"/.pyenv/versions/3.12*/bin/python; do
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))' 2> /dev/null) || continue
    compile pybind.cpython-312.o g++ -fPIC -w -DTORCH_EXTENSION_NAME=_ext "-I$headers" \
        "$SOURCE/pytorch/pybind.cpp"
    break
done

echo 'what stands for the other operators'
# Python loads a library only if all of its symbols are defined, so each function that is not
# compiled gets one that ends the process. Names of torch's C++ are in namespaces, and those of its
# Python bindings begin with THP.
(
    cd "$OUT/objects"
    rm -f missing.o
    comm -23 <(nm -u ./*.o | grep -o '_Z[0-9][A-Za-z0-9_]*' | sort -u) \
        <(nm --defined-only ./*.o | grep -o '_Z[0-9][A-Za-z0-9_]*' | sort -u) |
        grep -v '^_Z[0-9]*THP' |
        sed 's/.*/void &(void) { __builtin_trap(); }/' > missing.c
    grep -c . missing.c
    gcc -c -fPIC -w -o missing.o missing.c
)

echo 'mmcv itself'
rm -rf "$OUT/mmcv"
mkdir -p "$OUT/mmcv"
cp -r "$DOWNLOADS/mmcv-2.1.0/mmcv" "$OUT/mmcv/mmcv"
rm -rf "$OUT/mmcv/mmcv/ops/csrc"
cp "$SOURCE/pytorch/pybind.cpp" "$OUT/mmcv/"
cp -r "$SOURCE/common" "$OUT/mmcv/common"
cp -rL data/bccd "$OUT/"
strip -g "$OUT"/objects/*.o
du -sh "$OUT" "$OUT"/*
