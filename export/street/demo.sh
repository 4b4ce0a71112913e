#!/usr/bin/env bash
# The demo: the very commands that a user types, on the bundled network and clip.
#   bash export/street/demo.sh [OUTPUT_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-out/demo}
street=export/street
mkdir -p "$out"
table="$out/times.txt"
: > "$table"

step() { # NAME COMMAND...: show the command, run it, note its seconds
    local name=$1 start end
    shift
    printf '\n$ %s\n' "$*"
    start=$(date +%s.%N)
    "$@"
    end=$(date +%s.%N)
    awk -v name="$name" -v a="$start" -v b="$end" \
        'BEGIN { printf "%-28s %6.1f s\n", name, b - a }' >> "$table"
}

step "segedge export" segedge export "$street/network.py:street_net" \
    --checkpoint "$street/street.pth" --classes "$street/classes.txt" --size 384x768 \
    --verify "$street/street.mp4" -o "$out/street.onnx"
step "segedge inspect" segedge inspect "$out/street.onnx"
step "segedge run (video)" segedge run "$out/street.onnx" "$street/street.mp4" \
    --legend -o "$out/street-overlay.mp4"
step "a still of it" python "$street/still.py" "$out/street-overlay.mp4" "$out/street-still.png"

printf '\nseconds\n'
cat "$table"
printf '\nin %s:\n' "$out"
ls -l "$out" | awk 'NR > 1 { printf "  %-24s %9d bytes\n", $9, $5 }'
printf '\nnext        segedge run %s YOUR_VIDEO.mp4 -o yours.mp4\n' "$out/street.onnx"
