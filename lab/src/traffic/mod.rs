// SPDX-License-Identifier: Apache-2.0
//! Packets: servers that answer, clients that ask once or repeatedly, and the counter of leaks.

pub mod echo;
pub mod flows;
pub mod leak;
pub mod ping;
pub mod record;
pub mod stream;
pub mod talk;
