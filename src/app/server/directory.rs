// SPDX-License-Identifier: Apache-2.0
//! The directory of the endpoint's socket, and the clean-up of directories of killed predecessors.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rand::Rng;
use tokio::{net::UnixStream, time::timeout};

use super::ServeError;

/// Name of the socket in its directory.
pub(super) const SOCKET: &str = "listen.on";
/// Maximum length of a pod's name in the path of its socket, in bytes: such paths have at most 107.
const NAME_IN_PATH: usize = 60;
/// Digits behind the name.
const DIGITS: usize = 10;
/// Maximum number of predecessors' directories that are checked.
const MAX_PREDECESSORS: usize = 100;
/// How long a listener may take to answer.
const ALIVE_WITHIN: Duration = Duration::from_millis(200);

/// A directory that is removed on drop.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn make(parent: &Path, name: &str) -> Result<Self, ServeError> {
        let number = rand::rng().random_range(0..10_000_000_000_u64);
        let path = parent.join(format!("{}{number:0DIGITS$}", in_path(name)));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(ServeError::Directory { parent: parent.to_owned(), source }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes the directories that killed predecessors of this name left in `parent`. One is
    /// removed only if it belongs to this user and contains nothing but a socket without a
    /// listener.
    pub(super) async fn clear(parent: &Path, name: &str) {
        for path in of_predecessors(parent, in_path(name)) {
            if is_left(&path).await {
                match fs::remove_dir_all(&path) {
                    Ok(()) => tracing::info!(directory = %path.display(), "removed what a predecessor left"),
                    Err(error) => {
                        tracing::warn!(directory = %path.display(), %error, "left by a predecessor")
                    }
                }
            }
        }
    }
}

fn in_path(name: &str) -> &str {
    name.get(..NAME_IN_PATH).unwrap_or(name)
}

fn of_predecessors(parent: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter(|entry| {
            let file = entry.file_name();
            let digits = file.to_str().and_then(|file| file.strip_prefix(name));
            digits.is_some_and(|rest| rest.len() == DIGITS && rest.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .map(|entry| entry.path())
        .take(MAX_PREDECESSORS)
        .collect()
}

async fn is_left(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_directory = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == own);
    if !is_directory {
        return false;
    }
    let socket = path.join(SOCKET);
    let names: Vec<_> = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok).take(2).collect();
    let [only] = names.as_slice() else { return false };
    let is_socket = fs::symlink_metadata(&socket).is_ok_and(|found| found.file_type().is_socket());
    if only.path() != socket || !is_socket {
        return false;
    }
    let connected = timeout(ALIVE_WITHIN, UnixStream::connect(&socket)).await;
    matches!(connected, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for Directory {
    fn drop(&mut self) {
        // It contains only the socket, which its listener may still be about to remove.
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "the directory of the socket is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_long_name_still_makes_a_path_that_a_socket_can_have() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::make(parent.path(), &"n".repeat(253)).unwrap();
        let socket = Path::new("/tmp").join(directory.0.file_name().unwrap()).join(SOCKET);
        assert!(socket.as_os_str().len() <= 107, "{}", socket.display());
        let path = directory.0.clone();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = Directory::make(Path::new("/proc"), "px").unwrap_err();
        assert!(error.to_string().contains("/proc"), "{error}");
    }

    #[tokio::test]
    async fn only_the_folder_of_a_killed_predecessor_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let listening = |path: &Path| UnixListener::bind(path.join(SOCKET)).unwrap();
        let left = made("px0000000001");
        drop(listening(&left));
        let lives = made("px0000000002");
        let _listener = listening(&lives);
        let other = made("px-b0000000001");
        let full = made("px0000000003");
        let empty = made("px0000000004");
        drop((listening(&other), listening(&full)));
        fs::write(full.join("notes"), "mine").unwrap();
        let file = parent.path().join("px0000000005");
        fs::write(&file, "mine").unwrap();
        Directory::clear(parent.path(), "px").await;
        assert!(!left.exists(), "nobody listens");
        for path in [lives, other, full, empty, file] {
            assert!(path.exists(), "{}", path.display());
        }
    }
}
