// SPDX-License-Identifier: Apache-2.0
//! Runs the Go programs and reads their reports.
//!
//! Each prints one JSON object per line. A program ends when its standard input ends, so none
//! outlives the test.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

/// The result of a case, with the reason why it failed.
pub(crate) type Outcome<T> = Result<T, String>;

/// Maximum number of unread lines of a program; a program that is further ahead blocks.
const LINES: usize = 256;

/// The folder of the Go programs.
///
/// # Panics
/// If they are missing: a test without its peers proves nothing.
pub(crate) fn folder() -> PathBuf {
    let Some(folder) = std::env::var_os("INTEROP_BIN").map(PathBuf::from) else {
        panic!(
            "INTEROP_BIN is not set: run `make interop`, which builds the Go programs and names their folder"
        );
    };
    for name in ["registry", "nsmgr", "forwarder", "endpoint", "client", "service"] {
        let path = folder.join(name);
        assert!(path.is_file(), "{} is missing: run `make interop`", path.display());
    }
    folder
}

/// A running Go program. Dropping it kills it.
pub(crate) struct Program {
    name: String,
    child: Child,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
    /// Every event so far, in order.
    pub(crate) seen: Vec<Value>,
}

/// The network namespace of a program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Netns {
    /// Ours: it uses our loopback interface.
    Shared,
    /// A new one: its descriptor is another file than ours.
    Own,
}

impl Program {
    /// Starts a program with its identity's socket in the environment and its log beside the
    /// others.
    pub(crate) fn start(
        name: &str,
        path: &Path,
        args: &[&str],
        identity: &str,
        log: PathBuf,
        netns: Netns,
    ) -> Outcome<Self> {
        let fail = |what: &str, error: &dyn std::fmt::Display| format!("{name}: {what}: {error}");
        let mut command = Command::new(path);
        command
            .args(args)
            .arg("-until-eof")
            .env("SPIFFE_ENDPOINT_SOCKET", identity)
            // A killed program leaves its folder behind; the test's folder is removed with the
            // test.
            .env("TMPDIR", log.parent().unwrap_or(Path::new("/tmp")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(|error| fail("log", &error))?);
        // Children inherit the namespace of their thread. The thread ends afterwards.
        let spawned = thread::spawn(move || -> Outcome<Child> {
            if netns == Netns::Own {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|error| {
                    format!("a network namespace: {error}; run as root, or under `lab exec`")
                })?;
            }
            command.spawn().map_err(|error| error.to_string())
        });
        let child = spawned.join().map_err(|_| format!("{name}: the thread that starts it panicked"))?;
        let mut child = child.map_err(|error| fail("cannot start", &error))?;

        let (sender, lines) = mpsc::channel(LINES);
        let stdout = child.stdout.take().ok_or_else(|| format!("{name}: no standard output"))?;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, lines, log, seen: Vec::new() })
    }

    /// The next event, or `None` at the end of the program's output.
    async fn next(&mut self) -> Option<Value> {
        let line = self.lines.recv().await?;
        let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
        self.seen.push(event.clone());
        Some(event)
    }

    /// The next event with a name; others on the way are kept in `seen`.
    pub(crate) async fn event(&mut self, name: &str, within: Duration) -> Outcome<Value> {
        let wait = async {
            while let Some(event) = self.next().await {
                if event["event"] == name {
                    return Ok(event);
                }
                if event["event"] == "failed" {
                    return Err(format!(
                        "{} failed: {}",
                        self.name,
                        event["error"].as_str().unwrap_or_default()
                    ));
                }
            }
            Err(format!("{} ended without `{name}`", self.name))
        };
        match timeout(within, wait).await {
            Ok(outcome) => outcome.map_err(|error| self.explain(error)),
            Err(_) => Err(self.explain(format!("{}: no `{name}` within {within:?}", self.name))),
        }
    }

    /// Waits for the program's end, which must be exit code 0.
    pub(crate) async fn success(&mut self, within: Duration) -> Outcome<()> {
        let end = async { while self.next().await.is_some() {} };
        if timeout(within, end).await.is_err() {
            return Err(self.explain(format!("{} still runs after {within:?}", self.name)));
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        let failed = self.seen.iter().rfind(|event| event["event"] == "failed");
        let error = failed.and_then(|event| event["error"].as_str()).unwrap_or("nothing reported");
        if status.success() { Ok(()) } else { Err(self.explain(format!("{}: {status}: {error}", self.name))) }
    }

    /// Ends the program, and waits for it.
    pub(crate) async fn stop(&mut self, within: Duration) -> Outcome<()> {
        self.signal(Signal::SIGTERM)?;
        self.success(within).await
    }

    /// Kills the program, so that it cannot close anything.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().map(drop).map_err(|error| error.to_string())
    }

    /// Events with a name, among those that were read.
    pub(crate) fn events(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.seen.iter().filter(move |event| event["event"] == name)
    }

    fn signal(&self, signal: Signal) -> Outcome<()> {
        let pid = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), signal).map_err(|error| format!("{}: {signal}: {error}", self.name))
    }

    /// The error, with the end of the program's log below it.
    fn explain(&self, error: String) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> =
            log.lines().filter(|line| line.contains("rror") || line.contains("failed")).collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        format!("{error}\n  {last}")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
