#!/bin/sh
# Installs, upgrades and removes Holdfast as systemd services, from the checkout that this file lies in.
# Run it again with a newer checkout, and it upgrades in place; configuration and data are never written over.
set -eu

usage() {
    cat <<'END'
Usage: install.sh agent  --site SITE --hub URL [--token TOKEN] [--worker ID] [--docker]
       install.sh hub    [--with-broker [--host NAME]…] [--open] [--broker URL]
       install.sh broker [--host NAME]… [--open]
       install.sh agent|hub|broker --remove [--purge]

  --site SITE        the site that this host is at
  --hub URL          where the hub is: https://hub.example:8000
  --token TOKEN      what `edge-hub workers enrol` has printed; --token-file FILE reads it from a file, - from the input
  --worker ID        the worker's name; by default the host's
  --docker           let tasks run in containers; the agent may then use the engine, as root may
  --with-broker      set up mosquitto on this host too, with TLS and an account for each worker
  --host NAME        a name or address by which workers reach this host; by default its own names
  --open             no accounts and no TLS: for a network in which everybody is trusted
  --broker URL       where the broker is, if it is not on this host: mqtts://broker.example:8883
  --wheels DIR       install from the wheels in DIR alone, without a package index; HOLDFAST_WHEELS says the same
  --remove           stop and remove the program; keep its configuration and data
  --purge            with --remove: remove these too, and the user
END
}

here=$(cd "$(dirname "$0")" && pwd)
checkout=$(dirname "$here")
etc=/etc/holdfast
opt=/opt/holdfast
state=/var/lib/holdfast
units=/etc/systemd/system
# Whether something is new that a service sees only when it is started again.
changed=

role=
site='' hub='' token='' token_file='' worker='' docker='' with_broker='' hosts='' open='' broker='' wheels=${HOLDFAST_WHEELS:-} remove='' purge=''

wrong() {
    echo "install.sh: $1" >&2
    usage >&2
    exit 2
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            agent | hub | broker) [ -z "$role" ] || wrong "'$1' after '$role': expected one of agent, hub and broker"; role=$1 ;;
            --docker) docker=1 ;;
            --with-broker) with_broker=1 ;;
            --open) open=1 ;;
            --remove) remove=1 ;;
            --purge) purge=1 ;;
            -h | --help) usage; exit 0 ;;
            --site | --hub | --token | --token-file | --worker | --host | --broker | --wheels)
                [ $# -gt 1 ] || wrong "$1 has no value"
                take "$1" "$2"
                shift
                ;;
            *) wrong "'$1': there is no such option" ;;
        esac
        shift
    done
    [ -n "$role" ] || wrong "expected agent, hub or broker"
    [ -z "$purge" ] || [ -n "$remove" ] || wrong "--purge goes with --remove"
}

take() {
    case $2 in
        *[\"\\\ ]* | '') wrong "$1 is '$2': expected no spaces, quotes or backslashes" ;;
    esac
    case $1 in
        --site) site=$2 ;;
        --hub) hub=$2 ;;
        --token) token=$2 ;;
        --token-file) token_file=$2 ;;
        --worker) worker=$2 ;;
        --host) hosts="$hosts $2" ;;
        --broker) broker=$2 ;;
        --wheels) wheels=$2 ;;
    esac
}

become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null || { echo "install.sh: only root can install services, and there is no sudo here" >&2; exit 1; }
    echo "Only root can install services: going on with sudo."
    exec sudo -- "$0" "$@"
}

parse "$@"
become_root "$@"

# shellcheck source=deploy/install/common.sh
. "$here/install/common.sh"
# shellcheck source=deploy/install/version.sh
. "$here/install/version.sh"
# shellcheck source=deploy/install/service.sh
. "$here/install/service.sh"
# shellcheck source=deploy/install/agent.sh
. "$here/install/agent.sh"
# shellcheck source=deploy/install/hub.sh
. "$here/install/hub.sh"
# shellcheck source=deploy/install/broker.sh
. "$here/install/broker.sh"

check_systemd
if [ -n "$remove" ]; then "remove_$role"; else "install_$role"; fi
