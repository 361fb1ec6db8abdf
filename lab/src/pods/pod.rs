// SPDX-License-Identifier: Apache-2.0
//! A pod: a network namespace with a name, and the process that runs in it.
//!
//! Most pods are simulated by tasks of the lab itself, with sockets in the pod's namespace. The
//! proxy is a separate process, with its own mounts as well: a private `/tmp` that outlives the
//! process, the sockets of its node, and `/etc/hosts`.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::chown},
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use ipnet::IpNet;
use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use super::{
    ground::{Ground, PROXY, bind, mount_new},
    privileges, seccomp,
};
use crate::{
    error::{Doing, LabError},
    network::{netlink::Netlink, netns::Netns},
};

/// Name of the folder that the processes of a pod may write.
const STATE: &str = "state";

/// A network namespace with a name.
pub struct Pod {
    /// Name of the pod.
    pub name: String,
    /// Its network namespace.
    pub netns: Netns,
    /// A netlink connection in it.
    pub netlink: Netlink,
    /// Its folder, for sockets and logs.
    pub folder: PathBuf,
    ground: Ground,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.ground.unname(&self.name);
    }
}

impl Pod {
    /// Creates a pod with its loopback link up, without the state of an earlier one of its name.
    ///
    /// # Errors
    /// The kernel refuses namespaces, or the name is not a file name.
    pub async fn new(name: &str, ground: &Ground) -> Result<Self, LabError> {
        let pod = Self::make(name, ground).doing(|| format!("make pod {name}"))?;
        pod.netlink.set_loopback_up().await?;
        Ok(pod)
    }

    fn make(name: &str, ground: &Ground) -> io::Result<Self> {
        let netns = Netns::new()?;
        ground.name(&netns, name)?;
        let netlink = Netlink::connect(&netns)?;
        let folder = ground.folder(name)?;
        match fs::remove_dir_all(folder.join(STATE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { name: name.to_owned(), netns, netlink, folder, ground: ground.clone() })
    }

    /// A folder that the processes of this pod may write, one after the other.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn state(&self) -> Result<PathBuf, LabError> {
        let folder = self.folder.join(STATE);
        let user = privileges::has_user(privileges::PROXY_USER).then_some(privileges::PROXY_USER);
        fs::create_dir_all(&folder)
            .and_then(|()| chown(&folder, user, user))
            .doing(|| format!("make the folder {}", folder.display()))?;
        Ok(folder)
    }

    /// Connects this pod to another with a pair of links, each with its addresses.
    ///
    /// # Errors
    /// A name or address is taken.
    pub async fn cable(&self, here: End<'_>, other: &Pod, there: End<'_>) -> Result<(), LabError> {
        // The peer is made in this namespace first, where its final name may be taken.
        let passing = format!("{}+", &there.name[..there.name.len().min(14)]);
        self.netlink.add_veth(here.name, &passing, &other.netns).await?;
        for (pod, made, end) in [(self, here.name, &here), (other, passing.as_str(), &there)] {
            let index = pod.netlink.index(made).await?;
            pod.netlink.label(index, end.name, "", 0).await?;
            pod.netlink.set_addresses(index, end.addresses).await?;
            pod.netlink.set_up(index).await?;
        }
        Ok(())
    }
}

/// One end of a cable.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Name of the link.
    pub name: &'a str,
    /// Its addresses.
    pub addresses: &'a [IpNet],
}

/// The parameters of a pod's process.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// Its whole environment.
    pub environment: &'a [(String, String)],
    /// Its mounts: existing files and folders, with their paths in the pod. Unless one is at
    /// `/tmp`, it has an empty `/tmp` of its own.
    pub mounts: &'a [(PathBuf, &'a str)],
    /// Whether it runs as user 10005 with NET_ADMIN and NET_RAW alone, if that user exists; the
    /// proxy under its seccomp profile, too.
    pub confined: bool,
    /// Name of the file in the pod's folder that receives its output.
    pub log: &'a str,
}

impl Start<'_> {
    /// Runs the process to its end, with its output in the answer instead of the log.
    ///
    /// # Errors
    /// A mount or the start was refused.
    pub async fn output(&self, pod: &Pod) -> Result<Output, LabError> {
        let child = self.spawn(pod, [Stdio::piped(), Stdio::piped()]).doing(|| self.name(pod))?;
        child.wait_with_output().await.doing(|| self.name(pod))
    }

    /// Spawns the process in the namespaces of a pod, with its output at the end of `log`.
    fn spawn_with_log(&self, pod: &Pod, log: &Path) -> io::Result<Child> {
        let output = File::options().create(true).append(true).open(log)?;
        self.spawn(pod, [output.try_clone()?.into(), output.into()])
    }

    /// Spawns the process in the namespaces of a pod, with this stdout and stderr.
    fn spawn(&self, pod: &Pod, output: [Stdio; 2]) -> io::Result<Child> {
        let [stdout, stderr] = output;
        // The mounts of the pod may hide the folder of the program.
        let program = File::open(self.program)?;
        pod.netns.run(|| {
            enter_mounts(self.mounts)?;
            if self.confined && privileges::has_user(privileges::PROXY_USER) {
                privileges::keep_network_capabilities(privileges::PROXY_USER)?;
                if self.program == Path::new(PROXY) {
                    seccomp::confine()?;
                }
            }
            let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
            command
                .arg0(self.program)
                .args(self.arguments)
                .env_clear()
                .envs(self.environment.iter().cloned());
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).kill_on_drop(true);
            command.current_dir("/").spawn()
        })
    }

    fn name(&self, pod: &Pod) -> String {
        format!("start {} in pod {}", self.program.display(), pod.name)
    }
}

/// The process of a pod. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts a process in the namespaces of a pod.
    ///
    /// # Errors
    /// A mount or the start was refused.
    pub fn start(pod: &Pod, start: &Start<'_>) -> Result<Self, LabError> {
        let log = pod.folder.join(start.log);
        let child = start.spawn_with_log(pod, &log).doing(|| start.name(pod))?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, log })
    }

    /// Process id in the lab.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::from(rustix::io::Errno::SRCH))?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// Terminates the process, and waits for it. After that time it is killed; `None` then.
    ///
    /// # Errors
    /// Waiting failed.
    pub async fn terminate(self, within: Duration) -> io::Result<Option<ExitStatus>> {
        let _ = self.signal(Signal::SIGTERM);
        self.ended(within).await
    }

    /// Waits until the process ends by itself. After that time it is killed; `None` then.
    ///
    /// # Errors
    /// Waiting failed.
    pub async fn ended(mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.map(Some),
            Err(_) => self.child.kill().await.map(|()| None),
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resident memory in bytes, from the kernel.
    ///
    /// # Errors
    /// The process has ended.
    pub fn resident(&self) -> io::Result<u64> {
        let kib = self.status("VmRSS")?.trim_end_matches("kB").trim().parse::<u64>();
        kib.map(|kib| kib * 1024).map_err(io::Error::other)
    }

    /// A line of the process's status in the kernel, such as `VmRSS`.
    ///
    /// # Errors
    /// The process has ended, or there is no such line.
    pub fn status(&self, name: &str) -> io::Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|line| line.trim().to_owned()).ok_or_else(|| io::Error::from(rustix::io::Errno::SRCH))
    }

    /// The last lines of its output.
    pub fn tail(&self, lines: usize) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let mut last: Vec<&str> = log.lines().rev().take(lines).collect();
        last.reverse();
        last.join("\n")
    }
}

fn enter_mounts(mounts: &[(PathBuf, &str)]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let named = |path: &str| {
        let path = path.to_owned();
        move |error: io::Error| io::Error::new(error.kind(), format!("mount on {path}: {error}"))
    };
    if !mounts.iter().any(|(_, to)| *to == "/tmp") {
        mount_new("tmpfs", "/tmp").map_err(named("/tmp"))?;
    }
    for (from, to) in mounts {
        let source = fs::metadata(from)?;
        let target = Path::new(to);
        // Folders below /run belong to the lab and are created when needed; a file of the machine
        // must exist.
        if source.is_dir() {
            fs::create_dir_all(target)?;
        } else if !target.exists() {
            target.parent().map(fs::create_dir_all).transpose()?;
            fs::write(target, "")?;
        }
        bind(from, to).map_err(named(to))?;
    }
    Ok(())
}
