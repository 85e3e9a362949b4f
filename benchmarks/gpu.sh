#!/usr/bin/env bash
# Check kernels, mixed precision and training on a GPU, and measure the time of a step.
#
#     benchmarks/gpu/prepare.sh                      # first, on a machine with a network
#     benchmarks/gpu.sh [--out DIR] [--limit 520] [SECTION ...]
#
# Sections, the most important first; all by default:
#   right     kernels of DIST, KD and CWD, and losses in half precision, against float64
#   losses    losses alone against memory traffic and torch.compile
#   retinanet a step of RetinaNet X101-64x4d -> R50, 800x1333, batch 2 and 8; fp32, fp16, bf16
#   waits     whether a distilled step makes the CPU wait for the GPU
#   idle      whether the GPU waits for mmkd's Python code; with a picture
#   nccl      gradients of side modules in one process with NCCL
#   train     BCCD in float32, with --amp, and with --amp, kill -9 and resume
#   cascade   a step of Cascade R-CNN X101 -> Faster R-CNN R50
#   segmentor a step of DeepLabV3 R101 -> R18, 512x1024, batch 8
# Each section has a time limit and writes its results to DIR/results.md when it ends, so an
# interrupted run keeps the finished sections. Sections in results.md are not repeated.
# --limit: seconds for all sections; the others are left for the next call.
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
SECTIONS=${*:-right losses retinanet waits idle nccl train cascade segmentor}
mkdir -p "$OUT"
RESULTS=$OUT/results.md LOG=$OUT/log.txt
began=$SECONDS
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
PYTHON=${PYTHON:-python3}

if [ -d .gpu ]; then . benchmarks/gpu/install.sh >> "$LOG" 2>&1 || { tail -5 "$LOG"; exit 1; }; fi
$PYTHON -W ignore benchmarks/gpu/machine.py > "$OUT/machine.md" 2>> "$LOG" || { tail -5 "$LOG"; exit 1; }
[ -f "$RESULTS" ] || cat "$OUT/machine.md" > "$RESULTS"
cat "$OUT/machine.md"

benchmark() { $PYTHON -W ignore benchmarks/benchmark.py --no-memory "$@"; }

pair() {  # student, teacher, further arguments; a step in float32, float16 and bfloat16
    local student=$1 teacher=$2 amp
    shift 2
    for amp in '' '--amp bfloat16' '--amp float16'; do
        benchmark --student "$student" --teacher "$teacher" --methods dist kd --whole --cached \
            --fast fuse=True channels_last=True precision=bf16 --rounds 7 --profile $amp "$@" \
            --work-dir "$OUT/work/$RANDOM" || return
    done
}

run_section() {
    case $1 in
        right | waits | idle | nccl | train)
            $PYTHON -W ignore "benchmarks/gpu/$1.py" --out "$OUT" ;;
        losses)
            benchmark --losses DIST KD CWD PKD --compiled --rounds 20 --loss-shape 8 720 100 168 \
                --feature-shape 8 256 100 168 --work-dir "$OUT/work/losses" ;;
        retinanet)
            local size
            for size in 2 8; do
                pair mmdet::retinanet/retinanet_r50_fpn_1x_coco.py \
                    mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py \
                    --size 800 1344 --batch-size $size || return
            done ;;
        cascade)
            pair mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py \
                mmdet::cascade_rcnn/cascade-mask-rcnn_x101-32x4d_fpn_1x_coco.py \
                --size 800 1344 --batch-size 2 ;;
        segmentor)
            pair mmseg::deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py \
                mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py \
                --size 512 1024 --batch-size 8 ;;
        *) echo "no section $1" >&2; return 2 ;;
    esac
}

seconds_of() {
    case $1 in right | waits | idle | nccl) echo 60 ;; losses) echo 90 ;; *) echo 150 ;; esac
}

for section in $SECTIONS; do
    grep -q "^## $section\$" "$RESULTS" && { echo "$section: done before"; continue; }
    left=$((LIMIT - (SECONDS - began)))
    [ $left -lt 20 ] && { echo "$section: no time left"; continue; }
    most=$(seconds_of "$section")
    [ $most -gt $left ] && most=$left
    start=$SECONDS
    export -f run_section benchmark pair
    export PYTHON OUT
    timeout -k 5 $most bash -c "run_section $section" > "$OUT/section.txt" 2>> "$LOG"
    code=$?
    took=$((SECONDS - start))
    {
        # A section that failed or timed out has another heading, so that it is repeated.
        [ $code = 0 ] && echo "## $section" || echo "## $section, incomplete (exit $code)"
        echo
        cat "$OUT/section.txt"
        [ $code = 0 ] || { echo; tail -n 5 "$LOG" | sed 's/^/    /'; }
        echo
        echo "($took s)"
        echo
    } | grep -v 'it/s\]' >> "$RESULTS"
    echo "$section: $([ $code = 0 ] && echo done || echo "exit $code") after $took s"
done
rm -rf "$OUT/work" "$OUT/section.txt" "$OUT/machine.md"
echo "Results: $RESULTS; log: $LOG"
