# SPDX-License-Identifier: Apache-2.0
# The proxy as one static binary, without a shell, for amd64 and arm64. Needs BuildKit. Both base images are arguments; the last one
# may be empty. Neither a path nor the time of the build is in the binary or its layer: only SOURCE_DATE_EPOCH.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=scratch

# Compiles on the platform of the builder, for any other.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
ARG TARGETARCH
# setcap, and a linker for the target
RUN need=$(command -v setcap >/dev/null || echo libcap2-bin) \
 && case "$TARGETARCH-$(uname -m)" in \
      arm64-x86_64) need="$need gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
      amd64-aarch64) need="$need gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
    esac \
 && { test -z "$need" || dpkg --status $need >/dev/null 2>&1 || { \
      apt-get update && apt-get install --yes --no-install-recommends $need; }; }
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY src src
COPY benches benches
COPY lab lab
COPY examples examples
COPY tests tests
ARG SOURCE_DATE_EPOCH=0
RUN case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-gnu gcc=x86_64-linux-gnu-gcc ;; \
      arm64) target=aarch64-unknown-linux-gnu gcc=aarch64-linux-gnu-gcc ;; \
      *) echo "architecture $TARGETARCH (accepted: amd64, arm64)" >&2; exit 1 ;; \
    esac \
 && { rustc --print target-libdir --target $target | xargs test -d || rustup target add $target; } \
 && export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=$gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$gcc \
 # neither this folder nor that of cargo is in the binary
 && export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/src=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
 && export CFLAGS="-ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=cargo" \
 && cargo build --release --locked --package meridio-proxy --bin proxy --target $target \
 && mkdir -p /rootfs/home/meridio /rootfs/bin /rootfs/etc /rootfs/tmp \
 && install -m 0755 target/$target/release/proxy /rootfs/home/meridio/proxy \
 # the probes of existing manifests call this name
 && ln -s /home/meridio/proxy /rootfs/bin/grpc_health_probe \
 && echo 'meridio:x:10005:10005::/home/meridio:/nonexistent' > /rootfs/etc/passwd \
 && echo 'meridio:x:10005:' > /rootfs/etc/group \
 && chmod 1777 /rootfs/tmp && chown 10005:10005 /rootfs/home/meridio \
 && find /rootfs -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} + \
 # permitted, not effective: the binary starts where NET_RAW is not granted, and raises what it finds
 && setcap cap_net_admin,cap_net_raw=p /rootfs/home/meridio/proxy

FROM ${RUNTIME_IMAGE}
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="meridio-proxy" \
      org.opencontainers.image.description="The proxy of Meridio: connects targets of a node with stateless load balancers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /rootfs/ /
WORKDIR /home/meridio
USER 10005:10005
CMD ["./proxy"]
