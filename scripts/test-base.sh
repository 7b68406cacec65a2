#!/bin/sh
# Makes a Debian 12 tree for tests that need a machine of their own: the base of the images, and the root of a systemd.
# Prints where it is. It is made once for each version of this file, and then shared by every run and every clone:
# whoever uses it copies it, or mounts something over it. For root, with debootstrap (scripts/test-packages.sh).
#
#   root=$(scripts/test-base.sh)
#
# In Python it is tests/support/base_image.py that gives the tree, or an image of it.
set -eu

suite=bookworm
packages=ca-certificates,curl,dbus,iproute2,mosquitto,mosquitto-clients,procps,python3,python3-venv,systemd,systemd-sysv
cache=${HOLDFAST_TEST_CACHE:-/var/cache/holdfast-tests}
version=$(sha256sum "$0" | cut -c 1-12)
tree=$cache/debian-$version

# Where this machine fetches Debian's packages; without an answer debootstrap takes its own.
find_mirror() {
    # The words in $(…) are apt's own.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(REPO_URI)' 2>/dev/null |
        awk -v suite="$suite" '$1 == "Debian" && $2 == suite { print $3; exit }'
}

make_tree() {
    mirror=$(find_mirror)
    part=$(mktemp -d "$cache/.part-XXXXXX")
    trap 'rm -rf "$part"' EXIT
    trap 'exit 1' INT TERM
    if ! debootstrap --variant=minbase --include="$packages" "$suite" "$part" ${mirror:+"$mirror"} >"$part.log" 2>&1
    then
        tail -n 20 "$part.log" "$part/debootstrap/debootstrap.log" >&2 || true
        rm -f "$part.log"
        exit 1
    fi
    rm -rf "$part.log" "$part/var/cache/apt/archives" "$part/var/lib/apt/lists" "$part/usr/share/doc" \
        "$part/usr/share/man" "$part/usr/share/locale" "$part/etc/hostname" "$part/etc/resolv.conf"
    mkdir -p "$part/var/cache/apt/archives/partial" "$part/var/lib/apt/lists/partial"
    chmod 755 "$part"
    mv "$part" "$tree"
}

# What this machine's own programs read before they reach a package registry. Anew each time: it may have changed.
copy_configuration() {
    for path in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/pip.conf /etc/xdg/pip/pip.conf \
        /etc/xdg/pip/constraints.txt /etc/ssl/certs/ca-certificates.crt; do
        if [ -f "$path" ] && ! cmp -s "$path" "$tree$path"; then
            mkdir -p "$(dirname "$tree$path")"
            cp "$path" "$tree$path.new"
            mv "$tree$path.new" "$tree$path" # in one step: somebody may be reading it
        fi
    done
}

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9 # the second of two runs waits for the first, and uses what that made
[ -d "$tree" ] || make_tree
copy_configuration
echo "$tree"
