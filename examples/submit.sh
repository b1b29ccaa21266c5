#!/usr/bin/env bash
# Queue several workflows, then wait for each and save what it made. From a shell, with comfy-bridge alone:
#
#   COMFYUI_URL=http://127.0.0.1:8188 examples/submit.sh pictures examples/01_picture.json examples/03_*.json
#
# The exit code is that of the first workflow that did not complete (7 failed, 8 cancelled, 9 timed out).
set -euo pipefail

if (($# < 2)); then
  echo "usage: $0 FOLDER WORKFLOW.json..." >&2
  exit 2
fi
folder=$1
shift

ids=()
for workflow in "$@"; do
  # submit prints the id on stdout and returns at once; the job is safe from then on.
  ids+=("$(comfy-bridge submit "$workflow")")
done

result=0
for id in "${ids[@]}"; do
  # wait runs the jobs itself if no other process (an agent's `comfy-bridge mcp`) does.
  code=0
  comfy-bridge wait "$id" --timeout "${TIMEOUT:-600}" --save-to "$folder" || code=$?
  ((result != 0)) || result=$code
done
exit "$result"
