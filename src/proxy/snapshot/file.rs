// SPDX-License-Identifier: Apache-2.0
//! Stores a snapshot in a private file.
//!
//! A snapshot is written beside the file, synchronised, and renamed over it, so that the file
//! always has the previous snapshot or the new one. Only a regular file that no other user may
//! write is read.

use std::{
    ffi::OsStr,
    fs, io,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::{fs::OFlags, process::geteuid};

use super::{
    Refusal, Snapshot, Store,
    format::{MAX_BYTES, decode, encode},
};
use crate::{chain::causes, ipam::Subnet};

/// Permissions of the file: its user may read and write it.
const MODE: u32 = 0o600;

/// The file of the snapshots of a conduit on a node.
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
    of: Subnet,
}

/// The reason why a file is not used.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error("it is not a regular file")]
    Kind,
    #[error("it belongs to user {0} (accepted: {1})")]
    Owner(u32, u32),
    #[error("others may write it, its mode is {0:o} (accepted: {MODE:o})")]
    Mode(u32),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl File {
    /// Names the file. Nothing is read or written.
    pub fn new(path: impl Into<PathBuf>, of: Subnet) -> Self {
        Self { path: path.into(), of }
    }

    /// Reads the snapshot of an earlier process. A file that is not accepted is renamed to
    /// `<path>.refused` and named in the log.
    pub fn load(&self) -> Option<Snapshot> {
        let (path, error) = match self.read() {
            Ok(snapshot) => {
                let leases = snapshot.leases.len();
                let vips = snapshot.vips.as_deref().map_or(0, <[_]>::len);
                tracing::info!(path = %self.path.display(), leases, vips, "an earlier process left a snapshot");
                return Some(snapshot);
            }
            Err(LoadError::Read(error)) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => (self.path.display(), causes(&error)),
        };
        let aside = self.beside("refused");
        match fs::rename(&self.path, &aside) {
            Ok(()) => {
                tracing::warn!(%path, error, aside = %aside.display(), "the snapshot is not used and set aside");
            }
            Err(reason) => {
                tracing::warn!(%path, error, %reason, "the snapshot is not used and cannot be set aside");
            }
        }
        None
    }

    fn read(&self) -> Result<Snapshot, LoadError> {
        // Without blocking: opening a pipe would wait for its writer.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&self.path)?;
        let metadata = file.metadata()?;
        let user = geteuid().as_raw();
        if !metadata.is_file() {
            return Err(LoadError::Kind);
        }
        if metadata.uid() != user {
            return Err(LoadError::Owner(metadata.uid(), user));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(LoadError::Mode(metadata.mode() & 0o777));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(decode(&bytes, &self.of, SystemTime::now())?)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.file_name().map(OsStr::to_owned).unwrap_or_default();
        name.push(".");
        name.push(suffix);
        self.path.with_file_name(name)
    }

    fn replace(&self, new: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(new, &self.path)?;
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        fs::File::open(parent)?.sync_all()
    }
}

impl Store for File {
    fn store(&self, snapshot: &Snapshot) -> io::Result<()> {
        let bytes = encode(snapshot, &self.of, SystemTime::now()).map_err(io::Error::other)?;
        let new = self.beside("new");
        // Left by a process that was killed while writing.
        let _none = fs::remove_file(&new);
        let replaced = self.replace(&new, &bytes);
        if replaced.is_err() {
            let _renamed = fs::remove_file(&new);
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::api::Dual;

    fn file(folder: &Path) -> File {
        let of = Subnet { trench: "t".into(), conduit: "c".into(), node: "n".into() };
        File::new(folder.join("snapshot"), of)
    }

    fn sample() -> Snapshot {
        let addresses = Dual { v4: "172.16.1.1/24".parse().ok(), v6: None };
        let leases = vec![crate::ipam::Record { child: "bridge".into(), owner: None, addresses }];
        Snapshot { leases, vips: Some(["20.0.0.1/32".parse().unwrap()].into()) }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_snapshot_is_private_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        assert_eq!(file.load(), None);
        file.store(&Snapshot::default()).unwrap();
        fs::write(file.beside("new"), "of a killed process").unwrap();
        file.store(&sample()).unwrap();
        assert_eq!(names(folder.path()), ["snapshot"]);
        assert_eq!(fs::metadata(&file.path).unwrap().mode() & 0o777, MODE);
        assert_eq!(file.load(), Some(sample()));
        assert_eq!(names(folder.path()), ["snapshot"]);
    }

    #[test]
    fn a_file_that_is_not_accepted_is_set_aside() {
        type Spoil = fn(&File);
        let table: [(&str, Spoil); 6] = [
            ("damaged", |file| fs::write(&file.path, "banana").unwrap()),
            ("of another node", |file| {
                let there = Subnet { node: "other".into(), ..file.of.clone() };
                File::new(&file.path, there).store(&sample()).unwrap();
            }),
            ("writable by all", |file| {
                file.store(&sample()).unwrap();
                fs::set_permissions(&file.path, fs::Permissions::from_mode(0o666)).unwrap();
            }),
            ("a symbolic link", |file| {
                let elsewhere = File::new(file.path.with_file_name("elsewhere"), file.of.clone());
                elsewhere.store(&sample()).unwrap();
                symlink(&elsewhere.path, &file.path).unwrap();
            }),
            ("a folder", |file| fs::create_dir(&file.path).unwrap()),
            ("a pipe", |file| {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &file.path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR,
                    0,
                )
                .unwrap();
            }),
        ];
        for (what, spoil) in table {
            let folder = tempfile::tempdir().unwrap();
            let file = file(folder.path());
            spoil(&file);
            assert_eq!(file.load(), None, "{what}");
            let names = names(folder.path());
            assert!(names.contains(&"snapshot.refused".to_owned()), "{what}: {names:?}");
            assert!(!names.contains(&"snapshot".to_owned()), "{what}: {names:?}");
            file.store(&sample()).unwrap();
            assert_eq!(file.load(), Some(sample()), "{what}: the next one is used");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let file = file(Path::new("/proc/self"));
        assert!(file.store(&sample()).is_err());
        assert_eq!(file.load(), None);
    }
}
