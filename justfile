# The tasks of this project. `just` lists them; https://just.systems explains this file.

# List the tasks.
[private]
default:
    @{{ just_executable() }} --list --unsorted

# Build the binary for development (target/debug/rproxy).
[group('build')]
build:
    cargo build --locked -p rproxy-bin

# Run the binary, for example `just run demo`.
[group('build')]
run *arguments:
    cargo run --locked -p rproxy-bin -- {{ arguments }}

# Build the release binary with profile-guided optimisation (target/guided/rproxy), or `--static`. Takes half an hour.
[group('build')]
release *options:
    scripts/release {{ options }}

# Build the Debian package, from a binary if one is given.
[group('build')]
deb *binary:
    scripts/package-deb {{ binary }}

# Build the container image, from a static binary if one is given. Needs buildah.
[group('build')]
container name='localhost/rproxy' *binary:
    scripts/container {{ name }} {{ binary }}

# Write the bill of materials (CycloneDX). Needs cargo-cyclonedx.
[group('build')]
sbom:
    scripts/sbom

# Run the checks that every commit must pass, or the named parts of them.
[group('check')]
ci *parts:
    .ci/run {{ parts }}

# Format, lint and check the language.
[group('check')]
lint:
    cargo fmt --all
    .ci/run lints language structure

# Check that each feature compiles alone. Needs cargo-hack.
[group('check')]
features:
    .ci/run features

# Check licences, sources and advisories of the dependencies. Needs cargo-deny.
[group('check')]
deny:
    .ci/run dependencies

# Find unused dependencies. Needs cargo-machete.
[group('check')]
unused:
    cargo machete

# Build the documentation of all crates, and open it.
[group('check')]
docs:
    cargo doc --workspace --no-deps --all-features --open

# Draw a sample of comments, messages and names, to judge the language.
[group('check')]
sample seed:
    scripts/sample-language --seed {{ seed }}

# Run the unit tests: no sockets of other programs, no setup.
[group('test')]
unit *arguments:
    cargo nextest run --workspace --all-features --locked --lib {{ arguments }}

# Run all tests, with nginx, curl, pebble and other programs from Debian's packages.
[group('test')]
test *arguments:
    scripts/test {{ arguments }}

# Fuzz each target, or the named ones.
[group('test')]
fuzz seconds='60' *targets:
    scripts/fuzz {{ seconds }} {{ targets }}

# Inject faults: full disks, clock jumps, kill -9. Needs root.
[group('test')]
faults *arguments:
    scripts/faults {{ arguments }}

# Check the systemd units against a binary.
[group('test')]
units binary='target/release/rproxy':
    deploy/check {{ binary }}

# Measure the time of each layer.
[group('measure')]
bench *arguments:
    cargo bench -p rproxy-benches {{ arguments }}

# Count the instructions of each layer, and compare them with the baseline. Needs valgrind.
[group('measure')]
instructions *arguments:
    cargo run --release -p rproxy-benches -- instructions {{ arguments }}

# Compare with nginx, HAProxy, Varnish, Envoy, Traefik and Caddy. Takes an hour.
[group('measure')]
compare *arguments:
    cargo run --release -p rproxy-benches -- compare {{ arguments }}

# Measure the effect of floods on a well-behaved client.
[group('measure')]
floods *arguments:
    cargo run --release -p rproxy-benches -- floods {{ arguments }}

# Run a mixed load for a long time, with restarts and failures.
[group('measure')]
soak minutes='60' *arguments:
    cargo run --release -p rproxy-benches -- soak --minutes {{ minutes }} {{ arguments }}
