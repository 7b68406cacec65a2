# shellcheck shell=sh
# The hub: what is particular to it.

hub_toml=$etc/hub.toml

install_hub() {
    [ -z "$with_broker" ] || [ -z "$broker" ] || wrong "--with-broker and --broker: expected one of them"
    version=$opt/hub-$(version_of hub)
    make_version hub "$version"
    make_user holdfast-hub "$state/hub"
    make_state hub
    make_secrets hub
    [ -z "$with_broker" ] || set_up_broker "$version/bin/edge-hub"
    [ -z "$with_broker" ] || [ -n "$open" ] || give_broker_secrets
    configure_hub
    bring_up hub "$version" "$state/hub/hub.db" "$state/hub/hub.db-wal" "$state/hub/hub.db-shm"
    tell_hub
}

configure_hub() {
    [ ! -e "$hub_toml" ] || [ -z "$with_broker$open$broker" ] || say "$hub_toml is there, and stays as it is."
    write_once "$hub_toml" 640 holdfast-hub hub_settings
    write_once "$etc/hub.env" 600 root \
        echo '# Settings of the hub as variables, which go before hub.toml: HUB_LOG_LEVEL=debug'
}

hub_settings() {
    cat <<END
# Written by install.sh once; from here on it is yours. Below, every setting is explained.
database_url = "sqlite:///$state/hub/hub.db"
END
    if [ -n "$open" ]; then
        open_settings
    elif [ -n "$with_broker" ]; then
        secure_settings
    fi
    [ -z "$broker" ] || echo "broker_url = \"$broker\""
    echo
    cat "$checkout/config/hub.toml"
}

open_settings() {
    cat <<'END'
# Whoever reaches this host may use the hub.
http_host = "0.0.0.0"
allow_anonymous = true
END
}

# The paths are for root's own commands, as `edge-hub workers enrol`. The service gets these files from systemd.
secure_settings() {
    cat <<END
http_host = "0.0.0.0"
require_tokens = true
http_tls_certificate = "$broker_home/mosquitto/server.crt"
http_tls_key = "$broker_home/mosquitto/server.key"
broker_url = "mqtts://localhost:8883"
username = "holdfast-hub"
password_file = "$broker_home/hub-password"
tls_ca = "$broker_home/ca.crt"
manage_accounts = true
END
}

# What root alone reads, and the hub is to have: broker.conf says which files. It is there where the broker has accounts.
give_broker_secrets() {
    mkdir -p "$units/edge-hub.service.d"
    put "$units/edge-hub.service.d/broker.conf" 644 <"$here/systemd/edge-hub.service.d/broker.conf"
}

tell_hub() {
    cat <<END
The hub runs. What it does:  systemctl status edge-hub; journalctl -u edge-hub
Its settings:                $hub_toml, then: systemctl restart edge-hub
END
    if [ -n "$with_broker" ] && [ -z "$open" ]; then
        cat <<END
A token for the API:         edge-hub tokens create --name NAME --role admin --config $hub_toml
One for each new worker:     edge-hub workers enrol --site SITE --config $hub_toml
END
    fi
}

remove_hub() {
    take_away hub
    say "The hub is gone. What it knows is in $state/hub."
    if [ -n "$purge" ]; then
        take_all hub
        say "And so is that, its configuration and its user."
    fi
}
