// SPDX-License-Identifier: Apache-2.0

//! Compile `proto/` to Rust, without `protoc`.

const FILES: [&str; 9] = [
    "nsm/connection.proto",
    "nsm/connectioncontext.proto",
    "nsm/networkservice.proto",
    "nsm/registry.proto",
    "meridio/ipam.proto",
    "meridio/model.proto",
    "meridio/configurationmanager.proto",
    "meridio/targetregistry.proto",
    "spiffe/workload.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    let services = std::env::var_os("CARGO_FEATURE_TRANSPORT").is_some();
    tonic_prost_build::configure()
        .build_client(services)
        .build_server(services)
        .codec_path("crate::api::Fitted")
        .compile_fds(files)?;
    Ok(())
}
