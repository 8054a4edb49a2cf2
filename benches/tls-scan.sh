#!/usr/bin/env bash
# Scans the TLS of the binary with sslyze (from PyPI) against Mozilla's "intermediate" profile, and checks that a client
# with OpenSSL 3.5 (Node.js 24, from npm) negotiates the post-quantum key exchange.
#
#     benches/tls-scan.sh [path of the rproxy binary]
#
# Needs openssl, python3 with venv, and npm for the second part. Exits with 0 if the profile is met.
set -euo pipefail
rproxy=$(realpath "${1:-target/release/rproxy}")
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

# A chain for 90 days on P-256, like that of a public authority.
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
# The test authority is in no public trust store; every other finding is an error.
findings=$(sed -n '/COMPLIANCE AGAINST/,$p' scan.txt | grep '^ *\*' | grep -v 'certificate_path_validation' || true)
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
if [ -n "$findings" ]; then
    printf 'findings against the profile:\n%s\n' "$findings"
    exit 1
fi
echo "Mozilla's intermediate profile is met"
