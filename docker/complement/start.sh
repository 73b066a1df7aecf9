#!/bin/sh
# Starts the homeserver as Complement expects it: named by SERVER_NAME, its certificate signed by
# the suite's authority, open to everybody. It may run again on the data that it left.
set -eu

suite=${COMPLEMENT_DIR:-/complement}      # given by Complement: ca/, appservice/
own=${HOMESERVER_DIR:-/homeserver}
mkdir -p "$own"

# A certificate for our name; TLS libraries look at the alternative name only.
printf 'subjectAltName=DNS:%s\n' "$SERVER_NAME" > "$own/tls.ext"
openssl req -new -newkey rsa:2048 -nodes -subj "/CN=$SERVER_NAME" \
    -keyout "$own/tls.key" -out "$own/tls.csr" 2> /dev/null
openssl x509 -req -in "$own/tls.csr" -CA "$suite/ca/ca.crt" -CAkey "$suite/ca/ca.key" \
    -set_serial "0x$(openssl rand -hex 8)" -days 30 -sha256 \
    -extfile "$own/tls.ext" -out "$own/tls.crt" 2> /dev/null

services=
for file in "$suite"/appservice/*.yaml; do
    [ -f "$file" ] && services="$services\"$file\", "
done

cat > "$own/config.yaml" <<END
server_name: "$SERVER_NAME"
data_dir: "$own/data"
listeners:
  - {address: 0.0.0.0, port: ${CLIENT_PORT:-8008}, resources: [client, federation]}
  - address: 0.0.0.0
    port: ${FEDERATION_PORT:-8448}
    resources: [client, federation]
    tls: {certificate: "$own/tls.crt", private_key: "$own/tls.key"}
federation:
  device_names: true
  # The names of Complement's deployments. Saves the well-known and SRV look-ups, which find nothing.
  resolve: {hs1: "hs1:8448", hs2: "hs2:8448", hs3: "hs3:8448", hs4: "hs4:8448"}
outgoing:
  ca_file: "$suite/ca/ca.crt"
  allowed_private_ranges: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 127.0.0.0/8, "fd00::/8"]
registration: {enabled: true, requires_token: false, shared_secret: complement, guests: true}
password: {bcrypt_rounds: 4}
rate_limits: {enabled: false}
default_room_version: "${ROOM_VERSION:-11}"
application_services: [$services]
media: {unauthenticated_paths: open}
push: {require_https: false, legacy_mentions: true}
server_notices: {localpart: _server, display_name: Server Alert, room_name: Server Alert}
END

exec homeserver run --config "$own/config.yaml"
