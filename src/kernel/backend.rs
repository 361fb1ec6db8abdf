// SPDX-License-Identifier: Apache-2.0

//! The operations of a kernel that the reconciler uses.

use std::{fmt, future::Future, io};

use super::{
    Observed, Op, Ours, WrongSysctl,
    announce::Announcements,
    liveness::{self, Neighbours},
};
use crate::api::Family;

/// A kernel: the real one by netlink, or one in memory.
pub trait Backend: Send + 'static {
    /// Reads everything that may be ours.
    ///
    /// # Errors
    /// The kernel refuses, or the connection to it breaks.
    fn dump(&mut self, ours: &Ours) -> impl Future<Output = Result<Observed, Refusal>> + Send;

    /// Reads the objects that have changed since `observed` was read. `observed` must be the result
    /// of the last [`dump`](Self::dump) or `refresh`. After an error, only a dump can be used.
    ///
    /// # Errors
    /// The kernel refuses, or the connection to it breaks.
    fn refresh(
        &mut self,
        ours: &Ours,
        observed: Observed,
    ) -> impl Future<Output = Result<Observed, Refusal>> + Send {
        drop(observed);
        self.dump(ours)
    }

    /// Makes one change. Adding an object that exists and removing one that does not both succeed.
    ///
    /// # Errors
    /// The kernel refuses, or the connection to it breaks.
    fn apply(&mut self, ours: &Ours, op: &Op) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// The sysctls whose values are wrong for these families.
    fn wrong_sysctls(&mut self, ours: &Ours, families: &[Family]) -> Vec<WrongSysctl>;

    /// A view of the neighbours on our bridge, for probes with these settings; without settings,
    /// the kernel solicits by its own timers. The view has its own connection to the kernel.
    ///
    /// # Errors
    /// The error of the socket call.
    fn neighbours(&mut self, settings: Option<liveness::Settings>) -> io::Result<Box<dyn Neighbours>>;

    /// A sender of announcements on our bridge. It has its own socket.
    ///
    /// # Errors
    /// The error of the socket call: `EPERM` without NET_RAW.
    fn announcements(&mut self) -> io::Result<Box<dyn Announcements>>;

    /// Waits until something that may be ours has changed, or changes may have been missed. Changes
    /// made before the call count, and so may changes by this process. Cancel-safe.
    fn changed(&mut self, ours: &Ours) -> impl Future<Output = ()> + Send;

    /// Whether anything but rules is reported to have changed since the last dump began; a plan of
    /// thousands of rules is then left early. Does not wait. A backend without events returns
    /// false.
    fn overtaken(&mut self, _ours: &Ours) -> bool {
        false
    }

    /// Replaces the connection to the kernel by a new one.
    ///
    /// # Errors
    /// The error of the socket call.
    fn reopen(&mut self) -> io::Result<()>;
}

/// The answer of a kernel that did not carry out a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error number; 0 if the connection broke before an answer came.
    pub errno: i32,
    /// The kernel's explanation (extended acknowledgement), or the reason why the connection broke.
    pub text: Option<String>,
}

impl Refusal {
    /// An answer without text.
    pub const fn errno(errno: i32) -> Self {
        Self { errno, text: None }
    }

    /// The connection broke.
    pub fn broken(why: impl fmt::Display) -> Self {
        Self { errno: 0, text: Some(why.to_string()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.errno, &self.text) {
            (0, text) => {
                write!(f, "no answer from the kernel: {}", text.as_deref().unwrap_or("connection closed"))
            }
            (errno, None) => io::Error::from_raw_os_error(errno).fmt(f),
            (errno, Some(text)) => write!(f, "{}: {text}", io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::error::Error for Refusal {}

/// Error numbers that are handled.
pub(super) mod errno {
    pub(in crate::kernel) const ENOENT: i32 = 2;
    pub(in crate::kernel) const ESRCH: i32 = 3;
    pub(in crate::kernel) const EINTR: i32 = 4;
    pub(in crate::kernel) const EACCES: i32 = 13;
    pub(in crate::kernel) const EEXIST: i32 = 17;
    pub(in crate::kernel) const ENODEV: i32 = 19;
    pub(in crate::kernel) const EINVAL: i32 = 22;
    pub(in crate::kernel) const EXFULL: i32 = 54;
    pub(in crate::kernel) const ENOPROTOOPT: i32 = 92;
    pub(in crate::kernel) const EAFNOSUPPORT: i32 = 97;
    pub(in crate::kernel) const EADDRNOTAVAIL: i32 = 99;
    pub(in crate::kernel) const ENETDOWN: i32 = 100;
    pub(in crate::kernel) const EHOSTUNREACH: i32 = 113;
    pub(in crate::kernel) const ENETUNREACH: i32 = 101;
}

/// Whether an answer means that the change is already in effect.
pub(super) fn in_effect(op: &Op, errno: i32) -> bool {
    match op {
        Op::AddRule(_) | Op::AddAddress(_) | Op::CreateBridge(_) => errno == errno::EEXIST,
        Op::DeleteRule(_) => errno == errno::ENOENT,
        Op::DeleteRoute(..) => errno == errno::ESRCH,
        Op::DeleteAddress(_) => [errno::EADDRNOTAVAIL, errno::ENODEV].contains(&errno),
        Op::DeleteBridge | Op::Detach(..) => errno == errno::ENODEV,
        Op::ForgetNeighbour(_) => [errno::ENOENT, errno::ENODEV].contains(&errno),
        Op::RaiseBridge
        | Op::ConfigureBridge
        | Op::SetNextHops(..)
        | Op::SetBlackhole(_)
        | Op::Attach(..) => false,
    }
}
