// SPDX-License-Identifier: Apache-2.0
//! Enters the lab's namespaces, by running this program once more inside them.
//!
//! The outer process makes a mount, network and PID namespace, and as an ordinary user a user
//! namespace first. It runs the same program with the argument [`INSIDE`]; that one is process 1 of
//! the PID namespace, so that its end, even by `kill -9`, ends everything in the namespace, and
//! mounts, links and namespaces go with the last process. The outer process holds the write end of
//! the inner one's stdin: its first line is the process id as seen outside, its end means "stop
//! now". For a [console](CONSOLE) the inner process inherits the stdin of the outer one, too.
//!
//! [`exec`] is simpler: a user namespace alone, and any command in it.
//!
//! No function here may start a thread: a process with threads cannot enter a user namespace.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::fd::AsRawFd,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::signal::{SigSet, Signal},
};
use rustix::{
    process::{Signal as ChildSignal, getgid, getuid, set_parent_process_death_signal},
    thread::{CapabilitySet, capabilities},
};
use tokio::sync::mpsc;

/// First argument of the program inside its namespaces.
pub const INSIDE: &str = "inside";

/// Argument by which the inner process reads the outer one's stdin.
pub const CONSOLE: &str = "--console";

/// Number of lines of stdin that wait.
const LINES: usize = 16;

/// Exit status of a run that was interrupted, as shells report SIGINT.
pub const INTERRUPTED: u8 = 130;

/// The lab could not enter its namespaces.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The kernel refuses namespaces that most machines allow even ordinary users. Root is not
    /// refused.
    #[error("{0}; as root the lab runs without it")]
    Refused(String),
    /// The kernel refused for another reason. A container needs the capability SYS_ADMIN.
    #[error("cannot {doing}")]
    Kernel {
        /// The failed operation.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> EnterError {
    move |source| EnterError::Kernel { doing: doing.to_owned(), source }
}

/// Runs this program with its `arguments` in new namespaces and waits for its end. SIGINT, SIGTERM
/// and SIGHUP stop it; the second one kills it.
///
/// # Errors
/// [`EnterError`] if it did not even start.
pub fn run_inside(arguments: &[OsString]) -> Result<u8, EnterError> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD]);
    signals.thread_block().map_err(|errno| failed("block signals")(errno.into()))?;
    make_namespaces()?;
    let inner = start_inside(arguments).map_err(failed("run the lab inside its namespaces"))?;
    let status = wait(inner, &signals);
    Ok(exit_code(status.map_err(failed("wait for the lab"))?))
}

fn start_inside(arguments: &[OsString]) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(INSIDE).args(arguments).stdin(Stdio::piped());
    // The copy is inherited.
    let console = arguments.iter().any(|argument| argument == CONSOLE);
    let console = console.then(|| rustix::io::dup(io::stdin())).transpose()?;
    if console.is_none() {
        // A terminal's Ctrl-C reaches only this process, so that it counts once.
        command.process_group(0);
    }
    let mut inner = command.spawn()?;
    let pid = inner.id();
    let number = console.map_or(-1, |console| console.as_raw_fd());
    writeln!(inner.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?, "{pid} {number}")?;
    Ok(inner)
}

/// Replaces this process by `program` with its `arguments`, as root: directly if the user is root,
/// in a user namespace otherwise. The process stays the same, so that signals reach the program and
/// its exit status is this one's. Returns only if that failed.
///
/// In the user namespace the user is root and the only user. Files that the program makes belong to
/// the user outside.
pub fn exec(program: &OsString, arguments: &[OsString]) -> EnterError {
    if let Err(error) = be_root() {
        return error;
    }
    let doing = format!("run `{}`", program.display());
    failed(&doing)(Command::new(program).args(arguments).exec())
}

fn be_root() -> Result<(), EnterError> {
    let capabilities = capabilities(None).map_err(|errno| failed("read capabilities")(errno.into()))?;
    // In a container, root may lack the capability to make namespaces; in a new user namespace it
    // has it.
    let able = capabilities.effective.contains(CapabilitySet::SYS_ADMIN);
    if getuid().is_root() && able { Ok(()) } else { make_user_namespace() }
}

fn make_namespaces() -> Result<(), EnterError> {
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    match unshare(namespaces) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(failed("make namespaces")(errno.into())),
    }
    make_user_namespace()?;
    unshare(namespaces).map_err(|errno| refused(errno.into()))
}

/// Enters a user namespace in which this user is root.
fn make_user_namespace() -> Result<(), EnterError> {
    let uid = getuid().as_raw();
    let gid = getgid().as_raw();
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| refused(errno.into()))?;
    map_root_to(uid, gid).map_err(refused)
}

/// Makes a user of the outside root in here.
fn map_root_to(uid: u32, gid: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Names the setting that denies ordinary users their own namespaces.
fn refused(error: io::Error) -> EnterError {
    let settings = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("/proc/sys/user/max_user_namespaces", "0", "10000"),
    ];
    let found = settings
        .iter()
        .find(|(file, denied, _)| std::fs::read_to_string(file).is_ok_and(|value| value.trim() == *denied));
    let why = match found {
        Some((file, _, wanted)) => {
            let name = file.trim_start_matches("/proc/sys/").replace('/', ".");
            format!(
                "this kernel refuses user namespaces to ordinary users (`sysctl -w {name}={wanted}` allows them)"
            )
        }
        None => {
            format!("user namespaces are refused ({error}): a container's seccomp or LSM policy, usually")
        }
    };
    EnterError::Refused(why)
}

fn wait(mut inner: Child, signals: &SigSet) -> io::Result<ExitStatus> {
    let mut stop = inner.stdin.take();
    loop {
        if let Some(status) = inner.try_wait()? {
            return Ok(status);
        }
        match signals.wait()? {
            Signal::SIGCHLD => {}
            _ if stop.take().is_some() => {} // its stdin has ended now
            _ => inner.kill()?,
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code =
        status.code().or_else(|| Some(128 + status.signal()?)).and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(u8::MAX)
}

/// The information that the inner process receives from the outer one.
#[derive(Debug)]
pub struct Outside {
    /// Process id of the inner process as seen outside.
    pub pid: u32,
    /// Completes when the outer process is gone or stops the lab.
    pub stop: tokio_util::sync::CancellationToken,
    /// The outer one's stdin, for a console.
    stdin: Option<File>,
}

impl Outside {
    /// Begins the life of the inner process: unblocks its signals, ties its life to the outer
    /// one's, and reads the outer one's messages.
    ///
    /// # Errors
    /// The program was started with [`INSIDE`] by hand: no process id on its stdin.
    pub fn meet() -> io::Result<Self> {
        set_parent_process_death_signal(Some(ChildSignal::KILL))?;
        SigSet::all().thread_unblock()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        let by_hand = || io::Error::other("the lab enters its namespaces by itself");
        let (pid, number) = line.trim().split_once(' ').ok_or_else(by_hand)?;
        let pid = pid.parse().map_err(|_| by_hand())?;
        let stdin = match number {
            "-1" => None,
            number => Some(File::open(format!("/proc/self/fd/{number}"))?),
        };
        let stop = tokio_util::sync::CancellationToken::new();
        let ended = stop.clone();
        std::thread::spawn(move || {
            while io::stdin().lock().read_line(&mut String::new()).is_ok_and(|read| read > 0) {}
            ended.cancel();
        });
        Ok(Self { pid, stop, stdin })
    }

    /// The lines of the outer one's stdin, read in a thread; none if it is not inherited.
    pub fn lines(&mut self) -> mpsc::Receiver<String> {
        let (read, lines) = mpsc::channel(LINES);
        if let Some(stdin) = self.stdin.take() {
            std::thread::spawn(move || {
                BufReader::new(stdin)
                    .lines()
                    .map_while(Result::ok)
                    .all(|line| read.blocking_send(line).is_ok())
            });
        }
        lines
    }
}
