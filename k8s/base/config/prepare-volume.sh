#!/bin/bash
# Init container of the head: fails with one line where the volume cannot be written, and makes its directories.
set -u
volume=${1:-/mnt/annlib}

if ! mkdir -p "$volume/runs" "$volume/logs" "$volume/cache" 2>/dev/null || ! [ -w "$volume/runs" ] ||
  ! [ -w "$volume/logs" ] || ! [ -w "$volume/cache" ]; then
  echo "error: $volume cannot be written by user $(id -u), groups $(id -G): it belongs to $(stat -c '%U:%G (%u:%g), mode %a' "$volume" 2>&1)." \
    "Let its storage honour fsGroup, or give the directory to group 1000: chgrp 1000 and chmod 2775." >&2
  exit 1
fi
