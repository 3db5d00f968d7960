#!/bin/bash
# Build the image of docker/Dockerfile and run it, on a Debian machine without a Docker engine.
#
#   image.sh install              what the rest needs, from apt (root)
#   image.sh build                base system, then the CPU image localhost/mixdim:ci
#   image.sh run ARG...           podman run --rm ARG...
#   image.sh inspect              what the image says of itself, as JSON
#   image.sh packages             what is in it, for a scanner: Debian's packages and Python's
#   image.sh updates              security updates that its Debian packages wait for (asks apt)
#   image.sh clean                remove everything that the others left, but for the base system
#
# Everything lies in $MIXDIM_IMAGE_DIR. Needs root, and Debian 12 for a base with Python 3.11.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
REPOSITORY=$(cd "$(dirname "$0")/../.." && pwd)
FOLDER=${MIXDIM_IMAGE_DIR:-$HOME/.cache/mixdim-image}
PYTHON=${PYTHON:-python3}
BASE=localhost/mixdim-base:bookworm
IMAGE=localhost/mixdim:ci
export CONTAINERS_STORAGE_CONF=$FOLDER/storage.conf BUILDAH_ISOLATION=chroot TMPDIR=$FOLDER/tmp

prepare() {
  mkdir -p "$FOLDER/tmp"
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' \
    "$FOLDER/store" "$FOLDER/state" > "$CONTAINERS_STORAGE_CONF"
}

install_tools() {
  apt-get update
  apt-get install --yes --no-install-recommends \
    buildah podman crun debootstrap netavark aardvark-dns iptables uidmap
}

# No registry is asked: Debian's own Python is as good a base as the one on the hub.
base() {
  buildah inspect --type image $BASE >/dev/null 2>&1 && return
  [ -e "$FOLDER/base.tar" ] || {
    rm -rf "$FOLDER/base"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
      bookworm "$FOLDER/base" >&2
    tar --create --directory "$FOLDER/base" --file "$FOLDER/base.tar.part" .
    mv "$FOLDER/base.tar.part" "$FOLDER/base.tar"
    rm -rf "$FOLDER/base"
  }
  local container
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$FOLDER/base.tar" /
  buildah config --cmd /bin/bash \
    --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  buildah run "$container" sh -c '
    suite=http://deb.debian.org/debian-security
    echo "deb $suite bookworm-security main" > /etc/apt/sources.list.d/security.list
    apt-get update --quiet && apt-get upgrade --quiet --yes
    rm -rf /var/cache/apt/* /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/*'
  buildah commit --format docker --squash --quiet --rm "$container" $BASE
}

build() {
  prepare
  base
  local volumes
  # Mounts exist only while a step runs: nothing of them is in the image.
  mapfile -t volumes < <("$PYTHON" "$REPOSITORY/tests/image/pip_mounts.py" "$FOLDER/pip.conf")
  buildah bud --format docker --layers --pull-never --build-arg BASE=$BASE "${volumes[@]}" \
    --file "$REPOSITORY/docker/Dockerfile" --tag $IMAGE "$REPOSITORY"
}

# A kernel with both versions of cgroups shows podman only the older one; the limits that podman
# takes by default are higher than a machine may allow.
run() {
  prepare
  exec unshare --mount --propagation private bash -c '
    umount /sys/fs/cgroup/unified 2>/dev/null
    exec podman --cgroup-manager cgroupfs --events-backend file run --rm "$@"' podman \
    --ulimit nofile=16384:16384 --ulimit nproc=16384:16384 "$@"
}

packages() {
  run --network none --cgroups disabled $IMAGE sh -c "
    dpkg-query --show --showformat 'deb \${Package} \${Version}\n'
    python -c 'import importlib.metadata as m
for d in m.distributions(): print(\"pip\", d.metadata[\"Name\"], d.version)' | sort --ignore-case"
}

updates() {
  prepare
  local container
  container=$(buildah from --pull-never $IMAGE)
  buildah run --user root "$container" sh -c '
    apt-get update --quiet >/dev/null && apt list --upgradable 2>/dev/null | tail -n +2'
  buildah rm "$container" >/dev/null
}

clean() {
  prepare
  buildah rm --all >/dev/null
  buildah rmi --all --force >/dev/null
  rm -rf "$FOLDER/store" "$FOLDER/state" "$FOLDER/tmp"
}

case ${1:-} in
  install) install_tools ;;
  build) build ;;
  run) shift; run "$@" ;;
  inspect) prepare; podman image inspect $IMAGE ;;
  packages) packages ;;
  updates) updates ;;
  clean) clean ;;
  *) sed -n '2,12s/^# \?//p' "$0"; exit 2 ;;
esac
