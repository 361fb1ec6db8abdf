// SPDX-License-Identifier: Apache-2.0
//! Pods: the ground they stand on, their processes and what these may do, and the servers that the
//! lab itself plays in them.

pub mod ground;
pub mod hosted;
pub mod pod;
pub mod privileges;
pub mod simulated;
