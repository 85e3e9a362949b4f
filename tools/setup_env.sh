#!/usr/bin/env bash
# Make a virtual environment with the pinned stack: tools/setup_env.sh [FOLDER, .venv by default]
#
# STACK=onedl              the maintained forks instead of OpenMMLab's packages
# PYTHON=python3.11        the interpreter of the environment
# MMKD_CPU=1               CPU build even if there is a GPU
# MMKD_WHEELS=FOLDER       where the compiled mmcv is kept (default ~/.cache/mmkd/wheels)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
# shellcheck source=/dev/null
source requirements/versions.sh

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
stop() { printf '\n[setup] Cannot go on: %s\n' "$*" >&2; exit 1; }

stack=${STACK:-openmmlab}
case $stack in
  openmmlab) mmcv=$MMCV_OPENMMLAB ;;
  onedl) mmcv=$MMCV_ONEDL ;;
  *) stop "no stack '$stack'; STACK is openmmlab (default) or onedl." ;;
esac

fingerprint=$stack-$(cat requirements/* setup.py tools/setup_env.sh | sha256sum | cut -d' ' -f1)-${MMKD_CPU:-0}
ready=$(cat "$venv/.mmkd-ready" 2>/dev/null || true)
[ "$ready" = "$fingerprint" ] && exit 0
case $ready in # both stacks install the folders mmengine, mmdet and mmseg
  "" | "$stack"-*) ;;
  onedl-* | openmmlab-*) stop "$venv holds the other stack, ${ready%%-*}; give another folder, or remove it." ;;
esac

python=${PYTHON:-python3}
command -v "$python" >/dev/null || stop "no $python; install Python 3.11 or set PYTHON."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  stop "$("$python" --version) is too old for the pinned stack; set PYTHON to Python 3.11 or later."
command -v c++ >/dev/null || stop "no C++ compiler for mmcv's operators; apt-get install g++."

has_gpu=0
if [ "${MMKD_CPU:-0}" != 1 ] && nvidia-smi -L >/dev/null 2>&1; then
  has_gpu=1
  command -v nvcc >/dev/null || stop "there is a GPU, but no nvcc to compile mmcv's CUDA operators.
  Install the CUDA toolkit (apt-get install nvidia-cuda-toolkit, or NVIDIA's installer) and put
  nvcc on the PATH; or do without the GPU: MMKD_CPU=1 make ..."
fi

say "About 11 minutes on 2 cores, 3 if mmcv is already compiled"
say "1/5 Environment in $venv ($("$python" --version))"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
  rm -rf "$venv"
  stop "could not make a virtual environment; on Debian: apt-get install python3-venv python3-dev."
}
bin=$PWD/$venv/bin
case $venv in /*) bin=$venv/bin ;; esac
quiet=--quiet
[ -t 1 ] && quiet= # pip shows its progress bars only without --quiet
# shellcheck disable=SC2086
pip() { "$bin/python" -m pip --disable-pip-version-check $quiet "$@"; }
# shellcheck disable=SC2086
pip install $BUILD_TOOLS

say "2/5 torch $TORCH ($([ $has_gpu = 1 ] && echo CUDA || echo CPU) build where the index has one)"
if [ $has_gpu = 1 ]; then
  pip install "torch==$TORCH"
  "$bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is None)' ||
    stop "there is a GPU, but pip found only torch's CPU build; check pip's index settings."
else
  # Some package indexes have no separate +cpu build.
  pip install "torch==$TORCH+cpu" 2>/dev/null || pip install "torch==$TORCH"
fi

say "3/5 mmengine, mmdet, mmsegmentation ($stack) and their dependencies"
pip install --no-deps -r requirements/runtime.txt -r "requirements/stack_$stack.txt" \
  -r requirements/dev.txt

# A wheel compiled against another torch crashes at import, so each build of torch has a folder.
tag=$("$bin/python" -c 'import sys, torch; print("torch-{}-{}-cp{}{}".format(
    torch.__version__.split("+")[0], "cu" + torch.version.cuda if torch.version.cuda else "cpu",
    *sys.version_info[:2]))')
wheels=${MMKD_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/mmkd/wheels}/$tag-gpu$has_gpu
wheel=$(echo "${mmcv%%==*}" | tr - _)-${mmcv##*==} # the name of its file
if ! ls "$wheels/$wheel"-*.whl >/dev/null 2>&1; then
  say "4/5 Compiling $mmcv for $tag: 5 to 15 minutes, once; the wheel is kept in $wheels"
  mkdir -p "$wheels/.build"
  MMCV_WITH_OPS=1 FORCE_CUDA=$has_gpu MAX_JOBS=${MAX_JOBS:-$(nproc)} "$bin/python" -m pip wheel \
    --no-build-isolation --no-deps --no-cache-dir -w "$wheels/.build" "$mmcv" \
    >"$wheels/.build/log" 2>&1 &
  build=$!
  for ((seconds = 0; ; seconds += 5)); do
    kill -0 $build 2>/dev/null || break
    [ $((seconds % 60)) = 0 ] && [ $seconds -gt 0 ] && say "    still compiling, $((seconds / 60)) min"
    sleep 5
  done
  wait $build || stop "$mmcv did not compile; the end of $wheels/.build/log:
$(tail -n 20 "$wheels/.build/log")"
  mv "$wheels/.build/$wheel"-*.whl "$wheels/" # only complete wheels are moved
  rm -rf "$wheels/.build"
else
  say "4/5 $mmcv from $wheels"
fi
pip install --no-deps --force-reinstall "$wheels/$wheel"-*.whl

say "5/5 mmkd, and a check of all imports"
pip install --no-deps --no-build-isolation --editable .
"$bin/python" -W ignore -c 'import mmcv.ops, mmdet, mmseg, mmkd' ||
  stop "the stack does not import; remove $venv and try again."
echo "$fingerprint" >"$venv/.mmkd-ready"
say "Ready: source $venv/bin/activate"
