// SPDX-License-Identifier: Apache-2.0
//! Packets: who answers, who asks once or without end, and who counts what may not be seen.

pub mod echo;
pub mod flows;
pub mod leak;
pub mod record;
pub mod stream;
pub mod talk;
