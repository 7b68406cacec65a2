#!/bin/sh
# Installs what only some tests need: a Docker Engine, of which they start one of their own, a busybox to run in it,
# compose, and what makes a Debian for images and systemd. They skip without. CI forbids that, so it runs this. For
# Debian and Ubuntu, as root.
set -eu

has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

missing=
has dockerd || missing="$missing docker.io"
dpkg -s busybox-static >/dev/null 2>&1 || missing="$missing busybox-static"
has ip || missing="$missing iproute2"
has iptables || missing="$missing iptables"
has docker-compose || missing="$missing docker-compose"
has debootstrap || missing="$missing debootstrap"
[ -n "$missing" ] || exit 0

echo "Installing with apt-get:$missing"
apt-get update -qq
# $missing is a list of words.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    -o DPkg::Lock::Timeout=120 $missing </dev/null >/dev/null
