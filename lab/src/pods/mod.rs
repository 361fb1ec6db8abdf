// SPDX-License-Identifier: Apache-2.0
//! Pods: their mounts, their processes with privileges, and the servers that the lab itself runs in
//! them.

pub mod ground;
pub mod hosted;
pub mod pod;
pub mod privileges;
pub mod seccomp;
pub mod simulated;
