# shellcheck shell=sh
# The broker: Debian's mosquitto with a configuration of ours. Its own in /etc/mosquitto stays as it is, unused.

broker_home=$etc/broker
broker_conf=$etc/mosquitto.conf
broker_dropin=$units/mosquitto.service.d/holdfast.conf

# A broker without a hub on this host. The program that makes accounts and certificates is the hub's.
install_broker() {
    [ -n "$open" ] || { version=$opt/hub-$(version_of hub); make_version hub "$version"; }
    set_up_broker "${version:-}/bin/edge-hub"
    [ -n "$open" ] || tell_broker
}

# set_up_broker EDGE_HUB
set_up_broker() {
    if ! has mosquitto || ! has mosquitto_pub; then need_packages mosquitto mosquitto-clients; fi
    leave_others_alone
    mkdir -p "$etc" "$(dirname "$broker_dropin")"
    if [ -n "$open" ]; then
        write_once "$broker_conf" 644 root cat "$checkout/config/mosquitto/mosquitto.conf"
    else
        make_accounts "$1"
        write_once "$broker_conf" 644 root production_conf
    fi
    put "$broker_dropin" 644 <"$here/systemd/mosquitto.service.d/holdfast.conf"
    start_broker
}

# make_accounts EDGE_HUB: the first accounts and the certificates, as far as they are missing or end soon.
make_accounts() {
    old_certificate=$(cat "$broker_home/mosquitto/server.crt" 2>/dev/null || true)
    # Words: one --host and a name each.
    # shellcheck disable=SC2046
    "$1" broker init "$broker_home" $(host_options)
    [ "$old_certificate" = "$(cat "$broker_home/mosquitto/server.crt")" ] || changed=1
}

# Somebody's own configuration means somebody's own broker: not ours to take over.
leave_others_alone() {
    [ ! -e "$broker_dropin" ] || return 0
    for one in /etc/mosquitto/conf.d/*.conf; do
        [ ! -e "$one" ] || fail "$one: this mosquitto is somebody's already. Use it with: install.sh hub --broker URL"
    done
}

host_options() {
    for name in ${hosts:-$(hostname -f 2>/dev/null || hostname) $(hostname) $(hostname -I 2>/dev/null || true)}; do
        echo "--host $name"
    done
}

# The plugin lies in a folder that is named for the processor.
production_conf() {
    plugin=$(find /usr/lib -name mosquitto_dynamic_security.so 2>/dev/null | head -n 1)
    [ -n "$plugin" ] || fail "mosquitto has no dynamic security plugin here: expected version 2.0.11 or later"
    sed "s|^plugin .*|plugin $plugin|" "$checkout/config/mosquitto/production.conf"
}

start_broker() {
    systemctl daemon-reload
    systemctl --quiet enable mosquitto.service 2>/dev/null
    if [ -n "$changed" ] || ! systemctl --quiet is-active mosquitto.service; then
        systemctl restart mosquitto.service || fail "mosquitto does not start: journalctl -u mosquitto"
    fi
}

tell_broker() {
    cat <<END
The broker runs, on port 8883. For the hub, on whatever host it is:
    HUB_USERNAME=holdfast-hub  HUB_MANAGE_ACCOUNTS=true
    $broker_home/hub-password (HUB_PASSWORD_FILE), $broker_home/ca.crt (HUB_TLS_CA)
END
}

remove_broker() {
    rm -f "$broker_dropin"
    systemctl daemon-reload
    systemctl --quiet disable --now mosquitto.service 2>/dev/null || true
    [ -e "$opt/hub" ] || rm -rf "$opt/hub-"* # for a broker alone it made accounts and certificates
    rmdir "$opt" 2>/dev/null || true
    say "The broker is stopped. Its configuration and accounts are in $broker_conf and $broker_home."
    if [ -n "$purge" ]; then
        rm -rf "$broker_conf" "$broker_home"
        rmdir "$etc" 2>/dev/null || true
        say "And they are gone. The package mosquitto stays: apt-get purge mosquitto"
    fi
}
