#!/usr/bin/env bash
# Builds and runs the tests of the whole workspace: with nextest where it is installed, else with cargo's own runner.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/common.sh

# The record's tests run against a real etcd of their own; those that pull cables make network namespaces with ip.
need etcd etcd-server
need etcdctl etcd-client
need ip iproute2

# The page is looked at in a browser, the chart rendered by both engines of Helm, and a run watched by a real Prometheus and a
# collector of another make.
./scripts/page-deps.sh
./scripts/telemetry-tools.sh
./scripts/chart-test.sh
./scripts/image-lint.sh

# Object storage is tested against a real server that speaks S3.
./scripts/objects-tools.sh

# The GPU path compiles in every test run, C++ included. Nothing here links it, so what it wants of others is looked at: libtorch's
# own libraries are linked, those of CUDA are not.
./scripts/provision-cuda-headers.sh
cargo build -p esta-c10d --features cuda
if nm --undefined-only --format=posix "${CARGO_TARGET_DIR:-target}/debug/libesta_c10d.rlib" 2>/dev/null | grep -E '^(cuda|cu|nccl)[A-Z]'; then
  fail "the GPU path would not link: these symbols are in no library that it names"
fi

# The tests that start real processes look for the binaries of this very build.
cargo build --workspace --all-targets
if cargo nextest --version >/dev/null 2>&1; then
  exec cargo nextest run --workspace
fi
exec cargo test --workspace
