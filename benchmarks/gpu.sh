#!/usr/bin/env bash
# Check kernels, mixed precision and training on a GPU, and measure the time of a step.
#
#     benchmarks/gpu/prepare.sh                      # first, on a machine with a network
#     benchmarks/gpu.sh [--out DIR] [--limit 520] [SECTION ...]
#
# Sections, the most important first; all by default:
#   right     kernels of DIST, KD and CWD, and losses in half precision, against float64
#   losses    losses alone: GB/s, against memory traffic and torch.compile, memory
#   retinanet a step of RetinaNet X101-64x4d -> R50, 800x1344, batch 2 and 8; fp32, bf16, fp16
#   waits     whether a distilled step makes the CPU wait for the GPU
#   amp       terms and gradients of a step in mixed precision against float32
#   nccl      gradients of side modules in one process with NCCL
#   idle      whether the GPU waits for mmkd's Python code; with a picture
#   segmentor a step of DeepLabV3 R101 -> R18, 512x1024, batch 8; fp32, bf16, fp16
#   cascade   a step of Cascade R-CNN X101-64x4d -> Faster R-CNN R50, batch 2; fp32, fp16
#   mmrazor   the same step by MMRazor, DIST and KD, batch 2
#   train     BCCD in float32, with --amp, and with --amp, kill -9 and resume
# Each section has a time limit and writes its results to DIR/results.md when it ends, and what it
# has measured until then if it does not end. Sections in results.md are not repeated. On a machine
# that starts empty, name those that are left.
# --limit: seconds for all sections; the others are left for the next call. For two calls on a machine
# that is lent for 15 minutes: `--limit 420`, and then `--limit 300 train cascade amp`, or what is left.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-work_dirs/gpu} LIMIT=520
while [ $# -gt 0 ]; do
    case $1 in
        --out) OUT=$2; shift 2 ;;
        --limit) LIMIT=$2; shift 2 ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit ;;
        -*) echo "$1: there are --out and --limit" >&2; exit 2 ;;
        *) break ;;
    esac
done
SECTIONS=${*:-right losses retinanet waits amp nccl idle segmentor cascade mmrazor train}
WORK=${MMKD_GPU_WORK:-/tmp/mmkd_gpu_work}  # not in DIR, of which a machine may return a few files
rm -rf "$WORK"
mkdir -p "$OUT" "$WORK"
RESULTS=$OUT/results.md LOG=$OUT/log.txt
began=$SECONDS
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
PYTHON=${PYTHON:-python3}

if [ -d .gpu ]; then . benchmarks/gpu/install.sh >> "$LOG" 2>&1 || { tail -5 "$LOG"; exit 1; }; fi
$PYTHON -W ignore benchmarks/gpu/machine.py > "$WORK/machine.md" 2>> "$LOG" || { tail -5 "$LOG"; exit 1; }
[ -f "$RESULTS" ] || cat "$WORK/machine.md" > "$RESULTS"
cat "$WORK/machine.md"

benchmark() {  # what it has measured is read from its folder, also if it is interrupted
    $PYTHON -W ignore benchmarks/benchmark.py --work-dir "$WORK/$SECTION" "$@" > /dev/null
}

pair() {  # student, teacher, further arguments
    local student=$1 teacher=$2
    shift 2
    benchmark --student "$student" --teacher "$teacher" --methods dist --whole \
        --fast fuse=True channels_last=True precision=bf16 --rounds 5 "$@"
}

run_section() {
    case $1 in
        right | waits | amp | idle | nccl | train)
            $PYTHON -W ignore "benchmarks/gpu/$1.py" --out "$OUT" --work-dir "$WORK/$1" ;;
        losses)
            benchmark --losses DIST KD CWD PKD --compiled --rounds 20 --loss-shape 8 720 100 168 \
                --feature-shape 8 256 100 168 ;;
        retinanet)
            pair mmdet::retinanet/retinanet_r50_fpn_1x_coco.py \
                mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py --cached \
                --size 800 1344 --batch-size 2 8 --amp float32 bfloat16 float16 ;;
        cascade)  # RoIAlign has no bfloat16, and RoIs are not in a cache
            pair mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py \
                mmdet::cascade_rcnn/cascade-rcnn_x101-64x4d_fpn_1x_coco.py \
                --size 800 1344 --batch-size 2 --amp float32 float16 ;;
        segmentor)
            pair mmseg::deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py \
                mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py --cached \
                --size 512 1024 --batch-size 8 --amp float32 bfloat16 float16 ;;
        mmrazor)
            benchmark --student mmdet::retinanet/retinanet_r50_fpn_1x_coco.py \
                --teacher mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py --methods dist kd \
                --mmrazor bbox_head.retina_cls --size 800 1344 --batch-size 2 --rounds 5 ;;
        *) echo "no section $1" >&2; return 2 ;;
    esac
}

seconds_of() {
    case $1 in
        right | losses) echo 130 ;;
        retinanet | segmentor) echo 180 ;;
        cascade | mmrazor) echo 120 ;;
        train) echo 260 ;;
        *) echo 70 ;;
    esac
}

for SECTION in $SECTIONS; do
    grep -q "^## $SECTION\$" "$RESULTS" && { echo "$SECTION: done before"; continue; }
    left=$((LIMIT - (SECONDS - began)))
    [ $left -lt 20 ] && { echo "$SECTION: no time left"; continue; }
    most=$(seconds_of "$SECTION")
    [ $most -gt $left ] && most=$left
    start=$SECONDS
    export -f run_section benchmark pair
    export PYTHON OUT WORK SECTION
    mkdir -p "$WORK/$SECTION"
    timeout -k 5 $most bash -c "run_section $SECTION" > "$WORK/section.txt" 2>> "$LOG"
    code=$?
    took=$((SECONDS - start))
    {
        # A section that failed or timed out has another heading, so that it is repeated.
        [ $code = 0 ] && echo "## $SECTION" || echo "## $SECTION, incomplete (exit $code)"
        echo
        cat "$WORK/section.txt"
        if [ -f "$WORK/$SECTION/benchmark.md" ]; then
            cat "$WORK/$SECTION/benchmark.md"
            cp "$WORK/$SECTION/benchmark.json" "$OUT/$SECTION.json"
        fi
        [ $code = 0 ] || { echo; tail -n 5 "$LOG" | sed 's/^/    /'; }
        echo
        echo "($took s)"
        echo
    } | grep -v 'it/s\]' >> "$RESULTS"
    echo "$SECTION: $([ $code = 0 ] && echo done || echo "exit $code") after $took s"
done
rm -rf "$WORK"
echo "Results: $RESULTS; log: $LOG"
