// SPDX-License-Identifier: Apache-2.0

//! The part of SPIRE's agent: attests each pod and gives it a Workload API.

pub mod agent;
