#!/bin/sh
# Runs while the image is built: makes the database, which every server of the suite then has.
set -eu

own=${HOMESERVER_DIR:-/homeserver}
mkdir -p "$own"
cat > "$own/prepare.yaml" <<END
server_name: nobody
data_dir: "$own/data"
listeners: [{address: 127.0.0.1, port: 0, resources: [client]}]
registration: {enabled: true, requires_token: false}
END

homeserver run --config "$own/prepare.yaml" 2> "$own/prepare.log" &
server=$!
until grep -q listening "$own/prepare.log"; do
    kill -0 $server || { cat "$own/prepare.log" >&2; exit 1; }
    sleep 0.2
done
kill $server
wait $server || true
rm "$own/prepare.yaml" "$own/prepare.log" "$own/data/signing.key"   # each server makes its own key
