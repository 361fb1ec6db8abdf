// SPDX-License-Identifier: Apache-2.0
//! Prepares the mount namespace of the lab: its own `/proc`, an empty `/run`, and copies of the
//! programs in it.
//!
//! All files of the lab are on file systems in memory that are not visible outside.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    error::{Doing, LabError},
    network::netns::{self, Netns},
};

/// Path of the proxy in every pod.
pub const PROXY: &str = "/run/proxy";
/// Another program in the proxy's place, to compare with.
pub const OTHER: &str = "/run/other-proxy";

/// The folder of the pods, and whether their namespaces have names.
#[derive(Clone, Debug)]
pub struct Ground {
    pods: PathBuf,
    named: bool,
}

impl Ground {
    /// Mounts, and copies each program to its place. This process must be the first of a new PID
    /// namespace, in a mount namespace of its own.
    ///
    /// # Errors
    /// Names the missing file or the refused operation.
    pub fn prepare(programs: &[(PathBuf, PathBuf)]) -> Result<Self, LabError> {
        // The mounts may hide the folders of the programs.
        let mut found = Vec::new();
        for (from, to) in programs {
            let file = File::open(from).doing(|| format!("read {} (build it first)", from.display()))?;
            found.push((file, to));
        }
        private_mounts().doing(|| "make mounts private".into())?;
        mount_new("proc", "/proc").doing(|| {
            "mount /proc (in a container it must not be masked: run the lab outside, or as root)".into()
        })?;
        mount_new("tmpfs", "/run").doing(|| "mount a tmpfs on /run".into())?;
        fs::create_dir(netns::NAMED).doing(|| format!("make {}", netns::NAMED))?;
        for (file, to) in found {
            place(file, to).doing(|| format!("write {}", to.display()))?;
        }
        Ok(Self { pods: "/run/pods".into(), named: true })
    }

    /// Pods in a folder, without names for their namespaces: no mount is made.
    pub fn unnamed(pods: &Path) -> Self {
        Self { pods: pods.to_owned(), named: false }
    }

    /// Gives a namespace the name of its pod.
    ///
    /// # Errors
    /// The name is taken, or mounting is refused.
    pub fn name(&self, netns: &Netns, pod: &str) -> io::Result<()> {
        if self.named { netns.publish(pod) } else { Ok(()) }
    }

    /// Takes the name away; the namespace goes with its last holder.
    pub fn unname(&self, pod: &str) {
        if self.named {
            let path = format!("{}/{pod}", netns::NAMED);
            // It may be in use by another process that inspects it: detached, it goes later.
            let _ = umount2(path.as_str(), MntFlags::MNT_DETACH);
            let _ = fs::remove_file(path);
        }
    }

    /// Folder of a pod, created if necessary. Every process in the lab may write there.
    ///
    /// # Errors
    /// The name is not a file name.
    pub fn folder(&self, pod: &str) -> io::Result<PathBuf> {
        let folder = self.pods.join(pod);
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
        Ok(folder)
    }
}

/// Copies a program to its place.
fn place(mut program: File, to: &Path) -> io::Result<()> {
    io::copy(&mut program, &mut File::create(to)?)?;
    fs::set_permissions(to, Permissions::from_mode(0o755))
}

fn private_mounts() -> io::Result<()> {
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?)
}

/// Mounts a new file system of a kind.
pub(super) fn mount_new(kind: &str, on: &str) -> io::Result<()> {
    let data = (kind == "tmpfs").then_some("mode=1777");
    Ok(mount(Some(kind), on, Some(kind), MsFlags::MS_NOSUID, data)?)
}

/// Mounts a file or folder at another place.
pub(super) fn bind(from: &Path, to: &str) -> io::Result<()> {
    Ok(mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}
