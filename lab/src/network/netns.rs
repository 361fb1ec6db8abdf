// SPDX-License-Identifier: Apache-2.0
//! Network namespaces by descriptor, and functions that run inside them.
//!
//! A namespace is a property of a thread, and a socket stays in the namespace in which it was made.
//! So a function that must run inside one runs on a separate thread, which enters the namespace,
//! runs it and ends; sockets, netlink connections and child processes made there can be used from
//! anywhere.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use nix::{
    mount::MsFlags,
    sched::{CloneFlags, unshare},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use nsm::api::Inode;

/// Mount point of named namespaces, as for `ip netns`.
pub const NAMED: &str = "/run/netns";

const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace. It lives as long as a clone, a process or a mount holds it.
#[derive(Clone, Debug)]
pub struct Netns(Arc<OwnedFd>);

impl Netns {
    /// Creates a namespace. Its loopback link is down.
    ///
    /// # Errors
    /// `EPERM` without the capability SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open(OWN)
        });
        Self::held_by(made.join().map_err(|_| io::Error::other("the thread of a new namespace panicked"))??)
    }

    /// The namespace of this process.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn own() -> io::Result<Self> {
        Self::held_by(File::open(OWN)?)
    }

    /// The namespace behind a descriptor, also one that was opened with `O_PATH`, as NSM passes
    /// them.
    ///
    /// # Errors
    /// The descriptor is not a file that can be opened.
    pub fn of(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        Self::held_by(File::open(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))?)
    }

    fn held_by(file: File) -> io::Result<Self> {
        Ok(Self(Arc::new(file.into())))
    }

    /// Device and inode number of the namespace.
    ///
    /// # Errors
    /// The error of `fstat`.
    pub fn inode(&self) -> io::Result<Inode> {
        Inode::of(&self.0)
    }

    /// The descriptor, to send to a peer.
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }

    /// Runs a function inside, on a separate thread with this one's tokio runtime, and waits for
    /// it. Meant for work without long waits: a socket, a netlink connection, the start of a
    /// process.
    ///
    /// # Errors
    /// The namespace cannot be entered, the function failed, or it panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let runtime = tokio::runtime::Handle::try_current().ok();
        let done = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
                    let _entered = runtime.as_ref().map(|runtime| runtime.enter());
                    work()
                })
                .join()
        });
        done.map_err(|_| io::Error::other("the work inside a namespace panicked"))?
    }

    /// Gives the namespace a name under [`NAMED`], by which `nsenter --net=` and `ip netns exec`
    /// find it.
    ///
    /// # Errors
    /// The folder is missing, or mounting is refused.
    pub fn publish(&self, name: &str) -> io::Result<()> {
        let path = format!("{NAMED}/{name}");
        fs::write(&path, "")?;
        self.run(|| {
            Ok(nix::mount::mount(Some(OWN), path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
        })
    }

    /// Sets kernel parameters below `/proc/sys/net`, such as `("ipv4/ip_forward", "1")`.
    ///
    /// # Errors
    /// Names the first parameter that cannot be written.
    pub fn configure(&self, parameters: &[(&str, &str)]) -> io::Result<()> {
        self.run(|| {
            parameters.iter().try_for_each(|(name, value)| {
                fs::write(format!("/proc/sys/net/{name}"), value)
                    .map_err(|error| io::Error::new(error.kind(), format!("net/{name}={value}: {error}")))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NEEDS;

    #[test]
    fn work_happens_inside_and_the_caller_stays_outside() {
        let outside = Netns::own().unwrap();
        let inside = Netns::new().expect(NEEDS);
        assert_ne!(inside.inode().unwrap(), outside.inode().unwrap());
        let seen = inside.run(|| Netns::own()?.inode()).unwrap();
        assert_eq!(seen, inside.inode().unwrap());
        assert_eq!(Netns::own().unwrap().inode().unwrap(), outside.inode().unwrap());
        let path = rustix::fs::open(OWN, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        assert_eq!(Netns::of(path.as_fd()).unwrap().inode().unwrap(), outside.inode().unwrap());
    }

    #[test]
    fn a_parameter_that_does_not_exist_is_named() {
        let inside = Netns::new().expect(NEEDS);
        inside.configure(&[("ipv4/ip_forward", "1")]).unwrap();
        let error = inside.configure(&[("ipv4/no_such", "1")]).unwrap_err();
        assert!(error.to_string().contains("net/ipv4/no_such=1"), "{error}");
    }
}
