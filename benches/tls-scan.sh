#!/usr/bin/env bash
# What a public scanner (sslyze, from PyPI) makes of the TLS that is served, against Mozilla's "intermediate" profile,
# and whether a client on OpenSSL 3.5 (Node.js 24, from npm) gets the post-quantum key exchange.
#
#     benches/tls-scan.sh [path of the rproxy binary]
#
# Needs openssl, python3 with venv, and npm for the second part. Exits 0 if nothing is worse than the profile.
set -euo pipefail
rproxy=$(realpath "${1:-target/release/rproxy}")
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

# A chain of 90 days on P-256, as an authority would give one.
for name in ca leaf; do openssl ecparam -genkey -name prime256v1 -noout -out $name.key; done
openssl req -x509 -new -key ca.key -days 300 -subj /CN=scan -out ca.pem 2>/dev/null
openssl req -new -key leaf.key -subj /CN=localhost -out leaf.csr
printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nkeyUsage=critical,digitalSignature\n' >extensions
openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 -sha256 -extfile extensions \
    -out leaf.pem 2>/dev/null
cat leaf.pem ca.pem >chain.pem

port=${PORT:-18443}
env -i RPROXY_LISTEN=127.0.0.1:$port RPROXY_HTTP_PORT=0 RPROXY_UPSTREAM=127.0.0.1:9 RPROXY_RATE_LIMIT_ENABLED=false \
    RPROXY_TLS_CERT="$work/chain.pem" RPROXY_TLS_KEY="$work/leaf.key" "$rproxy" 2>rproxy.log &
pids+=($!)
until grep -q listening rproxy.log; do sleep 0.1; done

python3 -m venv venv
venv/bin/pip install --quiet sslyze
venv/bin/sslyze --mozilla_config intermediate --certinfo_ca_file ca.pem localhost:$port >scan.txt || true
sed -n '/SCAN RESULTS/,$p' scan.txt
# The authority is of our own making: no public store has it, and that is all that may be amiss.
amiss=$(sed -n '/COMPLIANCE AGAINST/,$p' scan.txt | grep '^ *\*' | grep -v 'certificate_path_validation' || true)
grep -q 'Checking results against Mozilla' scan.txt

if command -v npm >/dev/null; then
    npm install --silent --no-fund --no-audit node@24 >/dev/null
    node_modules/node/bin/node -e "
        const tls = require('tls');
        const socket = tls.connect({ host: '127.0.0.1', port: $port, servername: 'localhost', rejectUnauthorized: false }, () => {
            const group = socket.getEphemeralKeyInfo().name;
            console.log('OpenSSL', process.versions.openssl, 'by default:', socket.getProtocol(), group);
            process.exit(group === 'X25519MLKEM768' ? 0 : 1);
        });"
fi
if [ -n "$amiss" ]; then
    printf 'worse than the profile:\n%s\n' "$amiss"
    exit 1
fi
echo "nothing is worse than Mozilla's intermediate profile"
