// SPDX-License-Identifier: Apache-2.0

//! Code generated from `proto/`, one module per protobuf package.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]

pub mod connection {
    tonic::include_proto!("connection");
}
pub mod connectioncontext {
    tonic::include_proto!("connectioncontext");
}
pub mod networkservice {
    tonic::include_proto!("networkservice");
}
pub mod registry {
    tonic::include_proto!("registry");
}
pub mod nsp {
    pub mod v1 {
        tonic::include_proto!("nsp.v1");
    }
}
pub mod ipam {
    pub mod v1 {
        tonic::include_proto!("ipam.v1");
    }
}
pub mod spiffe {
    tonic::include_proto!("_");
}
