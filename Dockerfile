# The images of ESTA, one target each:
#
#   docker build --target coordinator --tag esta-coordinator:0.1.0 .
#   docker build --target worker      --tag esta-worker:0.1.0-cpu  .    # trains on the processor
#   docker build --target worker-cuda --tag esta-worker:0.1.0-cuda .    # trains on NVIDIA GPUs
#
# Uses no syntax that BuildKit, the classic builder or buildah alone would know. Where no engine runs, scripts/image-check.sh
# carries out these steps in a clean root and starts what comes out.
#
# Build arguments:
#   RUST_IMAGE, DEBIAN_IMAGE   the two base images. Tags say the versions; to fix the content as well give the digest with
#                              the name: --build-arg DEBIAN_IMAGE=docker.io/library/debian:13.8-slim@sha256:...
#   VERSION, REVISION, SOURCE  for the labels: the release, the commit, the address of the repository
#   SOURCE_DATE_EPOCH          seconds; the newest time that a file of the coordinator's image bears
#   CARGO_BUILD_JOBS           compilations at once; cargo decides where it is absent
#
# Every image runs as 65532:65532, writes to /var/lib/esta alone and so works with a read-only root.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-slim-trixie
ARG DEBIAN_IMAGE=docker.io/library/debian:13.8-slim

# ---------------------------------------------------------------------------------------------------- shared by all builds
FROM ${RUST_IMAGE} AS toolchain
# Debian keeps one version of a package in a release: its name is the pin, and an exact one would break with the next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libprotobuf-dev lld make protobuf-compiler \
    && rm -rf /var/lib/apt/lists/*
ENV CARGO_INCREMENTAL=0
WORKDIR /src

# Manifests with empty sources: what follows in other stages is done again only where one of these files differs.
FROM toolchain AS manifests
COPY . /checkout
RUN /checkout/scripts/image-manifests.sh /checkout /manifests

FROM toolchain AS crates
COPY --from=manifests /manifests/ ./
RUN cargo fetch --locked

# ------------------------------------------------------------------------------------------------------------- coordinator
FROM crates AS coordinator-build
ARG CARGO_BUILD_JOBS
ENV RUSTFLAGS="-Clink-arg=-fuse-ld=lld"
RUN cargo build --release --frozen --package esta-coordinator \
    && cargo clean --release --frozen --workspace
COPY proto proto
COPY coordinator coordinator
RUN cargo build --release --frozen --package esta-coordinator \
    && install -D target/release/esta-coordinator /opt/esta/bin/esta-coordinator

FROM ${DEBIAN_IMAGE} AS coordinator-root
COPY scripts/image-root.sh LICENSE /build/
COPY --from=coordinator-build /opt/esta/ /root-of-image/opt/esta/
ARG SOURCE_DATE_EPOCH=0
RUN /build/image-root.sh /root-of-image /build/LICENSE

FROM scratch AS coordinator
COPY --from=coordinator-root /root-of-image/ /
COPY --from=coordinator-root --chown=65532:65532 /state/ /var/lib/esta/
ENV HOME=/var/lib/esta \
    PATH=/opt/esta/bin
WORKDIR /var/lib/esta
VOLUME ["/var/lib/esta"]
USER 65532:65532
EXPOSE 7700 7701
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/esta/bin/esta-coordinator"]
CMD ["--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="esta-coordinator" \
      org.opencontainers.image.description="The ESTA coordinator: serves plans to workers and keeps the importance table" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

# ----------------------------------------------------------------------------------------------------------------- workers
FROM toolchain AS libtorch
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgloo-dev python3 python3-pip python3-venv unzip \
    && rm -rf /var/lib/apt/lists/*
COPY scripts/common.sh scripts/provision-libtorch.sh scripts/torch-python.sh scripts/
# The worker finds libtorch beside itself: /opt/esta/bin/esta-worker, /opt/esta/torch/lib and, for CUDA, /opt/esta/nvidia, where
# the libraries of the wheels look for each other too. RUSTFLAGS stands in for the rpath of a checkout.
ENV ESTA_CACHE=/opt/cache \
    LIBTORCH=/src/.libtorch \
    PIP_NO_CACHE_DIR=1 \
    RUSTFLAGS="-Clink-arg=-fuse-ld=lld -Clink-arg=-Wl,-rpath,\$ORIGIN/../torch/lib"

FROM libtorch AS worker-build
ARG CARGO_BUILD_JOBS
ENV DEVICE=cpu
RUN scripts/provision-libtorch.sh
COPY --from=crates /usr/local/cargo/registry/ /usr/local/cargo/registry/
COPY --from=manifests /manifests/ ./
RUN cargo build --release --frozen --package esta-worker \
    && cargo clean --release --frozen --workspace
COPY proto proto
COPY coordinator coordinator
COPY worker worker
RUN cargo build --release --frozen --package esta-worker \
    && install -D target/release/esta-worker /opt/esta/bin/esta-worker
COPY scripts/image-libtorch.sh scripts/
RUN scripts/image-libtorch.sh /opt/esta

FROM ${DEBIAN_IMAGE} AS worker-base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
    && groupadd --gid 65532 esta \
    && useradd --uid 65532 --gid 65532 --no-log-init --no-create-home --home-dir /var/lib/esta --shell /usr/sbin/nologin esta \
    && install -d -o 65532 -g 65532 /var/lib/esta \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/*
COPY LICENSE /usr/share/doc/esta/
ENV ESTA_CACHE=/var/lib/esta/cache \
    HOME=/var/lib/esta \
    PATH=/opt/esta/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /var/lib/esta
VOLUME ["/var/lib/esta"]
USER 65532:65532
EXPOSE 7702
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/esta/bin/esta-worker"]
CMD ["--help"]

FROM worker-base AS worker
COPY --from=worker-build /opt/esta/ /opt/esta/
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="esta-worker" \
      org.opencontainers.image.description="The ESTA worker on the processor: trains the stitches it is given and reports their scores" \
      org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND LicenseRef-NVIDIA-CUDA" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

FROM libtorch AS worker-cuda-build
ARG CARGO_BUILD_JOBS
ENV DEVICE=cuda
RUN scripts/provision-libtorch.sh
COPY --from=crates /usr/local/cargo/registry/ /usr/local/cargo/registry/
COPY --from=manifests /manifests/ ./
RUN cargo build --release --frozen --package esta-worker --features esta-worker/cuda \
    && cargo clean --release --frozen --workspace
COPY proto proto
COPY coordinator coordinator
COPY worker worker
RUN cargo build --release --frozen --package esta-worker --features esta-worker/cuda \
    && install -D target/release/esta-worker /opt/esta/bin/esta-worker
COPY scripts/image-libtorch.sh scripts/
RUN scripts/image-libtorch.sh /opt/esta

FROM worker-base AS worker-cuda
COPY --from=worker-cuda-build /opt/esta/ /opt/esta/
# What of the driver the container runtime brings in; which GPUs is the business of whoever starts the container.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="esta-worker-cuda" \
      org.opencontainers.image.description="The ESTA worker on NVIDIA GPUs: trains the stitches it is given and reports their scores" \
      org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND LicenseRef-NVIDIA-CUDA" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
