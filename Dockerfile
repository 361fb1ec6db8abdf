# SPDX-License-Identifier: Apache-2.0
# The proxy as one static binary, without a shell. Both base images are arguments; the last one may be empty.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=scratch

FROM ${RUST_IMAGE} AS build
# setcap
RUN command -v setcap >/dev/null || (apt-get update && apt-get install --yes --no-install-recommends libcap2-bin)
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY src src
COPY benches benches
COPY lab lab
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN target=$(rustc --version --verbose | sed -n 's/^host: //p') \
 && cargo build --release --locked --package meridio-proxy --bin proxy --target "$target" \
 && mkdir -p /rootfs/home/meridio /rootfs/bin /rootfs/etc /rootfs/tmp \
 && install -m 0755 "target/$target/release/proxy" /rootfs/home/meridio/proxy \
 # permitted, not effective: the binary starts where NET_RAW is not granted, and raises what it finds
 && setcap cap_net_admin,cap_net_raw=p /rootfs/home/meridio/proxy \
 # the probes of existing manifests call this name
 && ln -s /home/meridio/proxy /rootfs/bin/grpc_health_probe \
 && echo 'meridio:x:10005:10005::/home/meridio:/nonexistent' > /rootfs/etc/passwd \
 && echo 'meridio:x:10005:' > /rootfs/etc/group \
 && chmod 1777 /rootfs/tmp && chown 10005:10005 /rootfs/home/meridio

FROM ${RUNTIME_IMAGE}
COPY --from=build /rootfs/ /
WORKDIR /home/meridio
USER 10005:10005
CMD ["./proxy"]
