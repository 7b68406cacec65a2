# shellcheck shell=sh
# What all parts of install.sh use.

# The terminal may be gone: an upgrade that has begun goes on.
say() { echo "$@" || true; }

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

# The units need what came with 252: folders of credentials, and paths of them in settings.
check_systemd() {
    [ -d /run/systemd/system ] || fail "systemd does not run here: expected a host that was booted with it"
    found=$(systemctl --version | awk 'NR == 1 { print int($2) }')
    [ "$found" -ge 252 ] || fail "systemd is $found: expected 252 or later, as in Debian 12 and Ubuntu 24.04"
}

# Installs what is missing of these packages. Debian and Ubuntu; elsewhere it says what to install.
need_packages() {
    has apt-get || fail "missing here: $*. Install it, then run this again"
    say "Installing with apt-get: $*"
    apt-get update -qq
    # The timeout: a machine that has just booted may be busy with its own updates.
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@" </dev/null >/dev/null
}

# make_user NAME HOME
make_user() {
    id "$1" >/dev/null 2>&1 || useradd --system --user-group --no-create-home --home-dir "$2" \
        --shell /usr/sbin/nologin "$1"
}

# write_once FILE MODE GROUP COMMAND…: what the command prints; but what is there already is the operator's.
write_once() {
    [ ! -e "$1" ] || return 0
    file=$1 mode=$2 group=$3
    shift 3
    (umask 077 && "$@" >"$file.new")
    chgrp "$group" "$file.new"
    chmod "$mode" "$file.new"
    mv "$file.new" "$file"
    changed=1
    say "Written: $file"
}

# put FILE MODE < TEXT: ours, so that a new version replaces it.
put() {
    (umask 077 && cat >"$1.new")
    chmod "$2" "$1.new"
    if cmp -s "$1.new" "$1"; then
        rm "$1.new"
    else
        mv "$1.new" "$1"
        changed=1
    fi
}

# make_state NAME: the directory of data, before anything of ours writes there as root.
make_state() {
    mkdir -p "$state"
    [ -d "$state/$1" ] || install -d -m 700 -o "holdfast-$1" -g "holdfast-$1" "$state/$1"
}

# make_secrets NAME: a folder that root alone reads; each file in it is handed to the service (LoadCredential=).
make_secrets() {
    mkdir -p "$etc"
    [ -d "$etc/$1.secrets" ] || mkdir -m 700 "$etc/$1.secrets"
}
