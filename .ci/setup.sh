#!/usr/bin/env bash
# Makes .venv with the locked packages and annlib itself. Called by `make setup`; safe to run again. With --test-tools it
# installs instead what only tests need, with --image-tools what only the tests of the image need.
#
# Starts from a bare Debian: what the system lacks is installed with apt-get where we may use it, and named where
# we may not. PYTHON chooses the interpreter (3.11 to 3.13); pip's own configuration (index, proxy, certificates)
# is left as the user has set it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly DATASET_URL=https://storage.googleapis.com/tensorflow/tf-keras-datasets/train-labels-idx1-ubyte.gz
readonly DATASET_PACKAGE=dataset-fashion-mnist
readonly PROBE_TIMEOUT_S=5

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }

# Prints the Python to build .venv with: the one asked for, else 3.11, else any that is supported.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
    if supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Runs apt-get as root; fails, without asking for a password, where that is not possible.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    command -v sudo >/dev/null && sudo -n "$@"
  fi
}

may_install() { command -v apt-get >/dev/null && as_root true 2>/dev/null; }

apt_updated=false
apt_install() {
  say "installing $* with apt-get"
  # A stale package list still installs most things, so a failed update is no reason to stop.
  if ! $apt_updated; then
    as_root apt-get -qq -o DPkg::Lock::Timeout=120 update || say "apt-get update failed; using the lists there are"
    apt_updated=true
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >/dev/null
}

# Installs packages that setup cannot do without, or says who has to.
require() {
  local reason=$1
  shift
  may_install || die "$reason. As an administrator run 'apt-get install $*', then 'make setup' again."
  apt_install "$@" || die "$reason, and apt-get could not install $*: see its message above."
}

make_venv() {
  local python version
  if ! python=$(find_python); then
    [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13."
    require "no Python 3.11, 3.12 or 3.13 found" python3 python3-venv
    python=$(find_python) || die "the system's python3 is not 3.11, 3.12 or 3.13: install one and pass PYTHON=path."
  fi
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    require "Python's venv module is missing" "python$version-venv"
  fi
  say "making $VENV with $("$python" --version)"
  "$python" -m venv --clear "$VENV"
}

install_packages() {
  say "installing the locked packages; the first time this downloads about 1 GB and takes minutes"
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  # Wheels only: a machine without a compiler gets the same result. setuptools, which builds annlib, is locked too,
  # so nothing is fetched that the locks do not name.
  "$VENV/bin/pip" install --quiet --require-hashes --only-binary=:all: -r requirements.lock -r requirements-dev.lock
  "$VENV/bin/pip" install --quiet --no-deps --no-build-isolation --editable .
  "$VENV/bin/pip" check || say "warning: the lock files do not give what pyproject.toml asks for; run 'make lock'."
}

download_works() {
  "$VENV/bin/python" - "$DATASET_URL" "$PROBE_TIMEOUT_S" <<'PYTHON' 2>/dev/null
import sys
import urllib.request

request = urllib.request.Request(sys.argv[1], method="HEAD")
urllib.request.urlopen(request, timeout=float(sys.argv[2])).close()
PYTHON
}

# Fashion-MNIST comes from the network at run time; where it cannot, Debian's copy does as well.
provide_dataset() {
  if dpkg-query -W "$DATASET_PACKAGE" >/dev/null 2>&1 || download_works; then
    return
  fi
  if may_install && apt_install "$DATASET_PACKAGE"; then
    return
  fi
  say "note: Fashion-MNIST can neither be downloaded nor installed here; to train on it, install $DATASET_PACKAGE."
}

# Checks the Kubernetes manifests. In an environment of its own, for its requirements and ours exclude each other.
provide_checkov() {
  if cmp -s requirements-checkov.lock .venv-checkov/.complete; then
    return
  fi
  say "installing checkov in .venv-checkov"
  "$VENV/bin/python" -m venv --clear .venv-checkov
  .venv-checkov/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: \
    -r requirements-checkov.lock || { say "note: checkov cannot be installed here; its tests are skipped and say so."; return; }
  cp requirements-checkov.lock .venv-checkov/.complete
}

# What only tests need: a browser that opens the report, and what draws the diagrams of models.
provide_test_tools() {
  local missing=()
  command -v dot >/dev/null || missing+=(graphviz)
  { command -v chromium && command -v chromedriver; } >/dev/null || missing+=(chromium chromium-driver)
  if [ ${#missing[@]} -eq 0 ] || { may_install && apt_install "${missing[@]}"; }; then
    return
  fi
  say "note: ${missing[*]} cannot be installed here; the tests that need them are skipped and say so."
}

# What builds the image and runs it as pods. runc, because Debian's crun refuses cgroups of both versions at once;
# netavark, which calls iptables, and aardvark-dns give the containers addresses and names; debootstrap makes a base
# image from packages.
provide_image_tools() {
  local missing=() tool
  for tool in podman runc debootstrap iptables; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  for tool in netavark aardvark-dns; do
    [ -x "/usr/lib/podman/$tool" ] || missing+=("$tool")
  done
  if [ ${#missing[@]} -eq 0 ] || { may_install && apt_install "${missing[@]}"; }; then
    return
  fi
  say "note: ${missing[*]} cannot be installed here; the tests that need them are skipped and say so."
}

if [ "${1:-}" = --test-tools ]; then
  provide_test_tools
  provide_checkov
  exit
fi
if [ "${1:-}" = --image-tools ]; then
  provide_image_tools
  exit
fi

# A .venv that was moved, copied or half made is made again; a sound one is only brought up to date.
if ! supported "$VENV/bin/python" || ! "$VENV/bin/pip" --version >/dev/null 2>&1; then
  make_venv
fi
install_packages
provide_dataset
touch "$VENV/.complete"
say "done"
