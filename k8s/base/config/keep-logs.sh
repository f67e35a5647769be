#!/bin/bash
# Sidecar of each Ray pod: copies the logs of Ray, of the driver and of the workers to the volume while they grow, and once
# more when the pod ends. So they are there after the pod, its container or its node has gone; at most PERIOD_S seconds are
# missing then. Ray's own directory stays on the node: it holds sockets and links, which network file systems lack.
set -u
: "${KEEP_LOGS_TO:?directory on the volume}"
readonly FROM=${KEEP_LOGS_FROM:-/tmp/ray}
readonly PERIOD_S=${KEEP_LOGS_PERIOD_S:-10}

copy() {
  local logs
  # One session a start of Ray; session_latest is a link to the newest. Files may vanish meanwhile.
  for logs in "$FROM"/session_[0-9]*/logs; do
    [ -d "$logs" ] || continue
    mkdir -p "$KEEP_LOGS_TO/$(basename "$(dirname "$logs")")" &&
      cp -ru --preserve=timestamps "$logs/." "$KEEP_LOGS_TO/$(basename "$(dirname "$logs")")/"
  done 2>&1 | grep -v '^cp: cannot stat' | tail -n 1 >&2
}

ended=false
trap 'ended=true' TERM INT
until $ended; do
  copy
  sleep "$PERIOD_S" &
  wait $!
done
# Kubernetes ends sidecars after the Ray container, so this is everything.
copy
