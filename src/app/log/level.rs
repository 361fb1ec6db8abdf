// SPDX-License-Identifier: Apache-2.0

//! The levels of the log.

/// The levels of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LogLevel {
    /// State changes and failures.
    Info,
    /// Also every call.
    Debug,
    /// Also every element of a call.
    Trace,
}

impl LogLevel {
    /// All levels, from the fewest lines to the most.
    pub const ALL: [Self; 3] = [Self::Info, Self::Debug, Self::Trace];

    /// Its name, as in `NSM_LOG_LEVEL`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }

    /// The level with a name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }
}
