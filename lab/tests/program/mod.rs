// SPDX-License-Identifier: Apache-2.0

//! The real program as a child process, in namespaces of the thread that starts it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

const NEEDS: &str = "needs root, or a user namespace (`lab exec`), for namespaces of its own";

/// The proxy, as `cargo build --bins` makes it.
pub(crate) fn path() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("proxy");
    assert!(program.exists(), "no {}: `cargo build --bins` makes it", program.display());
    program
}

/// Moves this thread into new mount and network namespaces, with empty folders in place of these.
pub(crate) fn enter_namespaces(hidden: &[&str]) -> Result<(), String> {
    let apart = unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET);
    apart.map_err(|errno| format!("{NEEDS}: {errno}"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for folder in hidden {
        mount(Some("tmpfs"), *folder, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    Ok(())
}

/// A child, killed when dropped.
pub(crate) struct Program(pub(crate) Child);

impl Program {
    /// Starts a command; `take` gets each line of its stdout, until it returns false.
    pub(crate) fn start(command: &mut Command, take: impl FnMut(String) -> bool + Send + 'static) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).all(take));
        Self(child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}
