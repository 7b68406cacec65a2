#!/bin/sh
# Installs what pip cannot: mosquitto with its command-line clients and, on Debian, Python's venv module.
# Only what is missing; says nothing when nothing is.
set -eu
cd "$(dirname "$0")/.."

# Where mosquitto is put, but an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin:/opt/homebrew/sbin

has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

find_missing() {
    missing=
    has mosquitto || missing="$missing mosquitto"
    if ! has mosquitto_pub || ! has mosquitto_rr; then missing="$missing mosquitto-clients"; fi
    has curl || missing="$missing curl" # the guides' commands, which a test runs
    # Clocks that are an hour off, for tests; they skip where the package is not to be had.
    if has apt-get && ! dpkg -s libfaketime >/dev/null 2>&1; then missing="$missing libfaketime"; fi
    # A .venv without pip is one that was begun without python3-venv.
    if [ ! -x .venv/bin/pip ] && ! scripts/find-python.sh >/dev/null 2>&1; then
        missing="$missing python3-venv"
    fi
}

misses() {
    case " $missing " in *" $1 "*) true ;; *) false ;; esac
}

# Debian starts mosquitto as a service, on port 1883, as soon as it is installed and at every boot. We start our own
# brokers, so the service stays off. /usr/sbin/policy-rc.d is asked before each start: see invoke-rc.d(8).
policy=/usr/sbin/policy-rc.d

forbid_service_start() {
    [ ! -e "$policy" ] || return 0 # as in a container, where it forbids every service
    trap 'as_root rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM # or dash leaves without the trap above
    printf '%s\n' '#!/bin/sh' 'case "$*" in *mosquitto*) exit 101 ;; esac' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}

disable_service() {
    [ ! -e /etc/systemd/system/mosquitto.service ] || return 0 # the user's own, not the package's
    as_root systemctl --quiet disable --now mosquitto.service 2>/dev/null || as_root update-rc.d mosquitto disable
}

install_with_apt() {
    if [ "$(id -u)" -ne 0 ] && ! has sudo; then
        echo "Not root, and no sudo. As root, run: apt-get install$missing" >&2
        exit 1
    fi
    if [ "$(id -u)" -eq 0 ]; then how=apt-get; else how='sudo apt-get'; fi
    echo "Installing with $how:$missing"

    if misses mosquitto; then forbid_service_start; fi
    as_root apt-get update -qq
    # The timeout: a machine that has just booted may be busy with its own updates. $missing is a list of words.
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 $missing </dev/null >/dev/null
    if misses mosquitto; then disable_service; fi
}

find_missing
[ -n "$missing" ] || exit 0

if has apt-get; then
    install_with_apt
elif has brew && { misses mosquitto || misses mosquitto-clients; }; then
    echo "Installing with brew: mosquitto"
    brew install --quiet mosquitto # the clients are part of it, and no service is started
elif misses mosquitto || misses mosquitto-clients; then
    echo "Holdfast needs mosquitto 2.0.11 or later, mosquitto_pub and mosquitto_rr: please install them." >&2
    exit 1
fi
