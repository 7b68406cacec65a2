# shellcheck shell=sh
# The agent: what is particular to it.

agent_toml=$etc/agent.toml
credentials=$etc/agent.secrets/credentials.json

install_agent() {
    [ -e "$agent_toml" ] || [ -n "$site" ] || wrong "the first time: expected --site, the site that this host is at"
    [ -e "$agent_toml" ] || [ -n "$hub" ] || wrong "the first time: expected --hub, where the hub is"
    version=$opt/agent-$(version_of agent)
    make_version agent "$version"
    make_user holdfast-agent "$state/agent"
    make_state agent
    make_secrets agent
    mkdir -p "$opt/site"
    configure_agent
    allow_docker
    [ -z "$token$token_file" ] || enrol "$version/bin/edge-agent"
    # The journal, and what SQLite keeps beside it.
    bring_up agent "$version" "$state/agent/journal.db" "$state/agent/journal.db-wal" "$state/agent/journal.db-shm"
    tell_agent
}

configure_agent() {
    [ ! -e "$agent_toml" ] || [ -z "$site$hub$worker" ] || say "$agent_toml is there, and stays as it is."
    write_once "$agent_toml" 640 holdfast-agent agent_settings
    write_once "$etc/agent.env" 600 root \
        echo '# Settings of the agent as variables, which go before agent.toml: WORKER_SLOTS=8'
}

agent_settings() {
    cat <<END
# Written by install.sh once; from here on it is yours. Below, every setting is explained.
site = "$site"
control_plane_url = "$hub"
id = "${worker:-$(worker_name)}"
offline_dir = "$state/agent"
# For \`edge-agent enrol\`, \`status\` and \`doctor\`, as root. The service gets its credentials from systemd.
credentials = "$credentials"
status_file = "/run/holdfast/agent/status.json"
# How long tasks may go on after a stop, as at each upgrade.
stop_seconds = 20.0
END
    [ -z "$docker" ] || echo 'capabilities = { docker = true }'
    echo
    cat "$checkout/config/agent.toml"
}

# The host's name, as far as a worker's name may hold it.
worker_name() { hostname | tr '[:upper:]' '[:lower:]' | tr -c 'a-z0-9._\n-' '-' | sed 's/^[^a-z0-9]*//' | cut -c1-63; }

allow_docker() {
    dropin=$units/edge-agent.service.d/docker.conf
    if [ -n "$docker" ]; then
        getent group docker >/dev/null || fail "--docker: there is no group 'docker' here: install Docker first"
        mkdir -p "$(dirname "$dropin")"
        put "$dropin" 644 <"$here/systemd/edge-agent.service.d/docker.conf"
        grep -q '^capabilities' "$agent_toml" || say "Add to $agent_toml: capabilities = { docker = true }"
    elif [ ! -e "$dropin" ] && getent group docker >/dev/null; then
        say "Docker is here. To let tasks run containers, run this again with --docker."
    fi
}

# enrol PROGRAM: trade the token for an account of this worker's own, in the place of one that it may have.
enrol() {
    set -- "$1" enrol --config "$agent_toml" --replace
    [ -z "$hub" ] || set -- "$@" --hub "$hub"
    [ -z "$site" ] || set -- "$@" --site "$site"
    [ -z "$worker" ] || set -- "$@" --worker "$worker"
    if [ -n "$token_file" ]; then set -- "$@" --token-file "$token_file"; else set -- "$@" --token "$token"; fi
    "$@" || fail "this worker has no new account; why stands above"
    changed=1 # the service sees it when it is started
}

tell_agent() {
    cat <<END
The agent runs. How it fares:  edge-agent status --config $agent_toml; journalctl -u edge-agent
Its settings:                  $agent_toml, then: systemctl restart edge-agent
Whether all is well:           edge-agent doctor --config $agent_toml
END
}

remove_agent() {
    remove_containers
    take_away agent
    say "The agent is gone. Its results, and what waits for the hub, are in $state/agent."
    if [ -n "$purge" ]; then
        rm -rf "$opt/site"
        take_all agent
        say "And so are they, its configuration and its user."
    fi
}

# Containers outlive the agent, so that an upgrade costs nothing of what they do. With nobody to come back they go.
remove_containers() {
    if ! has docker; then
        [ ! -e "$units/edge-agent.service.d/docker.conf" ] ||
            say "There is no program 'docker' here: if tasks have containers (label holdfast.home), remove them by hand."
        return 0
    fi
    systemctl --quiet stop edge-agent.service 2>/dev/null || true
    left=$(docker ps --all --quiet --filter "label=holdfast.home=$state/agent" 2>/dev/null) || return 0
    [ -n "$left" ] || return 0
    say "Removing the containers of its tasks."
    # $left is a list of words.
    # shellcheck disable=SC2086
    docker rm --force $left >/dev/null
}
