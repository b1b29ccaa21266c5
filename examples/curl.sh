#!/usr/bin/env bash
# The HTTP sidecar with curl alone: submit a workflow, follow it, fetch what it made, cancel another.
#
#   comfy-bridge serve                                     # in another shell
#   examples/curl.sh examples/01_picture.json pictures
#
# BRIDGE_URL says where the sidecar is; BRIDGE_KEY is sent where it asks for a key.
set -euo pipefail

if (($# != 2)); then
  echo "usage: $0 WORKFLOW.json FOLDER" >&2
  exit 2
fi
workflow=$1
folder=$2
url=${BRIDGE_URL:-http://127.0.0.1:9090}
v1=$url/v1/comfyui

# --fail-with-body: an error ends the script, and its body says what to do next.
curl=(curl --silent --show-error --fail-with-body --max-time 120)

# One member of the JSON on stdin. Enough for these answers; use jq for more.
member() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# The key comes from a pipe, not the command line: there every user of the machine could read it.
ask() {
  if [[ -n ${BRIDGE_KEY:-} ]]; then
    "${curl[@]}" --header @<(printf 'X-API-Key: %s\n' "$BRIDGE_KEY") "$@"
  else
    "${curl[@]}" "$@"
  fi
}

echo "health: $(ask "$url/health" | member status)" >&2

# Submit. The Idempotency-Key makes it safe to send the same again when the answer got lost.
body=$(printf '{"workflow": %s}' "$(cat "$workflow")")
submit() {
  ask "$v1/workflow" --header 'Content-Type: application/json' --data-binary @- <<<"$body" "$@"
}
once=(--header "Idempotency-Key: $$-$RANDOM-$RANDOM")
answer=$(submit "${once[@]}") || { echo "$answer" >&2; exit 1; }
id=$(member workflowId <<<"$answer")
again=$(submit "${once[@]}" | member workflowId)
[[ $id == "$again" ]] || { echo "two jobs for one submit" >&2; exit 1; }
echo "submitted as $id" >&2

# Follow it by Server-Sent Events; the answer ends with the workflow.
ask --no-buffer --max-time 3600 "$v1/workflow/$id/events" | sed -n 's/^data: {"type":"\([^"]*\)".*/\1/p' >&2

state=$(ask "$v1/workflow/$id")
if [[ $(member status <<<"$state") != completed ]]; then
  echo "$state" >&2
  exit 1
fi

# Fetch what it made: --remote-header-name takes the file name that the sidecar sends.
mkdir -p "$folder"
ask "$v1/outputs?workflowId=$id&limit=200" | grep -o '"url" *: *"[^"]*"' | cut -d '"' -f 4 |
  while read -r path; do
    (cd "$folder" && ask --remote-name --remote-header-name --write-out '%{filename_effective}\n' "$url$path")
  done | sed "s|^|$folder/|"

# Cancel: another one, at once.
other=$(submit | member workflowId)
(ask --request DELETE "$v1/workflow/$other" 2>/dev/null || true) | sed 's/^/cancel: /' >&2
echo >&2

# What an error looks like. curl ends with 22 then.
(ask "$v1/workflow/nope" 2>/dev/null || true) | member message >&2
