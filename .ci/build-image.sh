#!/usr/bin/env bash
# Builds the image with docker, podman or buildah, whichever works here. Called by `make image`, which says what the
# variables mean.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'image: error: %s\n' "$*" >&2; exit 2; }

# Prints the first engine that answers: a docker client is often there without an engine behind it.
find_engine() {
  local engine
  for engine in docker podman buildah; do
    if command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1; then
      echo "$engine"
      return
    fi
  done
  return 1
}

# Prints --secret for a file of the user.
secret() {
  [ -r "$3" ] || die "$2 is wrong; expected a file that can be read, received '$3'; correct the path."
  printf -- '--secret=id=%s,src=%s\n' "$1" "$3"
}

extra=${EXTRA:-cpu}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
case "$extra" in
  cpu) image=${IMAGE:-annlib:$version} ;;
  gpu) image=${IMAGE:-annlib:$version-gpu} ;;
  *) die "EXTRA is wrong; expected cpu or gpu, received '$extra'; correct EXTRA." ;;
esac

arguments=(--tag "$image" --build-arg "EXTRA=$extra")
[ -z "${BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
[ -z "${PIP_INDEX_URL:-}" ] || arguments+=(--build-arg "PIP_INDEX_URL=$PIP_INDEX_URL")
if [ -n "${PIP_CONF:-}" ]; then
  argument=$(secret pip_conf PIP_CONF "$PIP_CONF")
  arguments+=("$argument")
fi
if [ -n "${CA_BUNDLE:-}" ]; then
  argument=$(secret ca_bundle CA_BUNDLE "$CA_BUNDLE")
  arguments+=("$argument")
fi

if revision=$(git describe --always --dirty 2>/dev/null); then
  arguments+=(--label "org.opencontainers.image.revision=$revision")
fi

engine=${ENGINE:-$(find_engine)} ||
  die "no docker, podman or buildah answers here; expected one of them; install podman, or set ENGINE."
# Docker needs BuildKit for the secrets. ENGINE_FLAGS is several words.
# shellcheck disable=SC2086
DOCKER_BUILDKIT=1 "$engine" build ${ENGINE_FLAGS:-} "${arguments[@]}" .
printf 'image: built %s with %s\n' "$image" "$engine"
