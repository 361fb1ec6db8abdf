// SPDX-License-Identifier: Apache-2.0

//! Mechanisms and the texts in their parameters.

use std::{fmt, os::fd::AsFd, str::FromStr};

use arrayvec::ArrayString;

use super::pb::connection::Mechanism;

/// Mechanism class of two ends on one node.
const LOCAL: &str = "LOCAL";

/// Keys of mechanism parameters.
pub mod parameter {
    /// Name of the interface, at most 15 characters.
    pub const NAME: &str = "name";
    /// The network namespace of the interface: `file://` inside a process, `inode://` on the wire.
    pub const INODE_URL: &str = "inodeURL";
}

/// Mechanism types that this crate handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MechanismKind {
    /// A kernel interface.
    Kernel,
    /// No interface.
    Noop,
}

impl MechanismKind {
    /// The type as written in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            MechanismKind::Kernel => "KERNEL",
            MechanismKind::Noop => "NOOP",
        }
    }
}

impl Mechanism {
    /// The kind of the mechanism; `None` if this crate does not handle it.
    pub fn kind(&self) -> Option<MechanismKind> {
        [MechanismKind::Kernel, MechanismKind::Noop].into_iter().find(|kind| kind.as_str() == self.r#type)
    }

    /// A `LOCAL` mechanism without parameters.
    pub fn local(kind: MechanismKind) -> Self {
        Self { cls: LOCAL.into(), r#type: kind.as_str().into(), parameters: Default::default() }
    }

    /// The interface name, if present and valid.
    pub fn interface(&self) -> Option<InterfaceName> {
        self.parameters.get(parameter::NAME)?.parse().ok()
    }

    /// The inode in the inode URL, if present and valid.
    pub fn inode(&self) -> Option<Inode> {
        self.parameters.get(parameter::INODE_URL)?.parse().ok()
    }
}

/// Name of a network interface: 1 to 15 bytes, no `/`, no whitespace or control characters, not `.`
/// or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(ArrayString<{ Self::MAX }>);

/// A text that the kernel would refuse as an interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an interface name (accepted: 1 to 15 bytes, no `/`, `:`, whitespace, `.` or `..`)")]
pub struct InvalidInterfaceName(pub String);

impl InterfaceName {
    /// Longest name in bytes.
    pub const MAX: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(name: &str) -> Result<Self, InvalidInterfaceName> {
        let refused = ["", ".", ".."].contains(&name) || name.len() > Self::MAX;
        if refused || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
            return Err(InvalidInterfaceName(name.chars().take(64).collect()));
        }
        let mut text = ArrayString::new();
        text.push_str(name);
        Ok(Self(text))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of a file beside an RPC: device and inode number, written `inode://<dev>/<ino>`.
///
/// ```
/// # use nsm::api::Inode;
/// let netns: Inode = "inode://4/4026531833".parse()?;
/// assert_eq!((netns.dev, netns.ino), (4, 4026531833));
/// assert_eq!(netns.to_string(), "inode://4/4026531833");
/// # Ok::<_, nsm::api::InvalidInode>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    /// Device number (`st_dev`).
    pub dev: u64,
    /// Inode number (`st_ino`).
    pub ino: u64,
}

/// A text that is not an inode URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an inode URL (accepted: inode://<device>/<inode>, both decimal)")]
pub struct InvalidInode(pub String);

impl Inode {
    /// The identity of an open file.
    ///
    /// # Errors
    /// The error of `fstat`.
    pub fn of(file: impl AsFd) -> std::io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self { dev: stat.st_dev, ino: stat.st_ino })
    }
}

impl FromStr for Inode {
    type Err = InvalidInode;

    fn from_str(url: &str) -> Result<Self, InvalidInode> {
        parse_inode(url).ok_or_else(|| InvalidInode(url.chars().take(64).collect()))
    }
}

fn parse_inode(url: &str) -> Option<Inode> {
    let (dev, ino) = url.strip_prefix("inode://")?.split_once('/')?;
    Some(Inode { dev: dev.parse().ok()?, ino: ino.parse().ok()? })
}

impl fmt::Display for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode://{}/{}", self.dev, self.ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_name_is_what_the_kernel_accepts() {
        for good in ["a", "load-balan-nSjS", "eth0.1", "nsm-0"] {
            assert_eq!(good.parse::<InterfaceName>().unwrap().as_str(), good);
        }
        for bad in ["", "sixteen-letters-", "a/b", "a b", ".", "..", "a:1", "a\n"] {
            assert!(bad.parse::<InterfaceName>().unwrap_err().to_string().contains("15 bytes"), "{bad}");
        }
    }

    #[test]
    fn an_inode_url_has_two_decimal_numbers() {
        for bad in ["", "inode://", "inode://4", "inode://x/1", "file:///proc/self/ns/net", "inode://4/-1"] {
            assert!(bad.parse::<Inode>().is_err(), "{bad}");
        }
    }
}
