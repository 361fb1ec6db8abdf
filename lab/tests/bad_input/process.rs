// SPDX-License-Identifier: Apache-2.0

//! Starts the real program in separate network and mount namespaces, and checks that it leaves
//! nothing behind.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use meridio_lab::network::{netlink::Netlink, netns::Netns};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use nsm::{
    testing::{Authority, Issued, Lines, Workload},
    transport::Address,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use tokio::time::sleep;

use crate::{
    around::{DOMAIN, HOUR},
    program::{self, Program, enter_namespaces},
    row::{Checked, Done, Row, Says},
};

/// Timeout of a row.
const ROW_TIMEOUT: Duration = Duration::from_secs(25);
/// Memory limit of a waiting program, unoptimised.
const MEMORY_KIB: usize = 64 << 10;
const DESCRIPTORS: usize = 64;

/// Namespaces with a folder for the sockets around the proxy.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) authority: Authority,
    netlink: Netlink,
    program: File,
}

/// A proxy, killed when dropped.
pub(crate) struct Proxy {
    pub(crate) log: Lines,
    program: Program,
}

/// Runs a row in a new place, and checks that it leaves nothing there. This thread stays in the
/// namespaces of the place.
pub(crate) fn check(row: &Row) -> Checked {
    // Before its folder may be hidden.
    let program = File::open(program::path()).map_err(|error| error.to_string())?;
    enter_namespaces(&["/tmp"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let place = Place::new(program).await;
        let checked = tokio::time::timeout(ROW_TIMEOUT, place.check(row)).await;
        checked.unwrap_or_else(|_| Err("not done in time".into()))
    })
}

impl Place {
    async fn new(program: File) -> Self {
        let folder = PathBuf::from("/tmp/place");
        fs::create_dir(&folder).unwrap();
        let netlink = Netlink::connect(&Netns::own().unwrap()).unwrap();
        netlink.set_loopback_up().await.unwrap();
        Self { folder, authority: Authority::new(DOMAIN), netlink, program }
    }

    async fn check(&self, row: &Row) -> Checked {
        let (Done::Starting(done), Says::Log(texts)) = (&row.done, &row.says) else {
            return Err("is no row of a process that starts, or says nothing in its log".into());
        };
        let before = self.left().await;
        done(self, texts).await?;
        let left = self.left().await;
        if left == before { Ok(()) } else { Err(format!("left {left:?}, before it was {before:?}")) }
    }

    /// Files of the proxy, and numbers of links, rules and routes.
    pub(crate) async fn left(&self) -> (Vec<String>, usize, usize, usize) {
        let entries = fs::read_dir("/tmp").unwrap().flatten();
        let files = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let rules = self.netlink.extra_rules().await.unwrap().len();
        let routes = self.netlink.count_extra_routes().await.unwrap();
        (files, self.netlink.links().await.unwrap().len(), rules, routes)
    }

    fn socket(&self, name: &str) -> String {
        format!("unix://{}/{name}", self.folder.display())
    }

    pub(crate) fn target(&self, name: &str) -> Address {
        self.socket(name).parse().unwrap()
    }

    /// The file of the proxy's snapshot.
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshot")
    }

    /// Listens as the Workload API of the proxy, which has no identity yet.
    pub(crate) fn agent(&self) -> Workload {
        Workload::listen(self.folder.join("agent.sock")).unwrap()
    }

    /// A good SVID of the proxy.
    pub(crate) fn svid(&self) -> Issued {
        self.authority.issue(&self.authority.pod("default", "px"), HOUR)
    }

    /// The program with valid variables, and some others.
    fn command(&self, others: &[(&str, &str)]) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.env_clear().envs([
            ("NSM_NAME", "px"),
            ("NSM_HOST", "node"),
            ("NSM_TRENCH", "trench"),
            ("NSM_CONDUIT", "conduit"),
            ("NSM_IPAM_SERVICE", "127.0.0.1:7777"),
            ("NSM_CONNECT_TO", &self.socket("nsm.io.sock")),
            ("NSM_SNAPSHOT_PATH", &self.snapshot().to_string_lossy()),
            ("SPIFFE_ENDPOINT_SOCKET", &self.socket("agent.sock")),
        ]);
        command.envs(others.iter().copied());
        command
    }

    pub(crate) fn proxy(&self, others: &[(&str, &str)]) -> Proxy {
        Proxy::of(self.command(others))
    }

    /// Without the capability to configure the network: even root cannot have a capability outside
    /// its bounding set.
    pub(crate) fn proxy_without_net_admin(&self) -> Proxy {
        let command = self.command(&[]);
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN).unwrap();
                    Proxy::of(command)
                })
                .join()
                .unwrap()
        })
    }
}

impl Proxy {
    fn of(mut command: Command) -> Self {
        let log = Lines::default();
        let to = log.clone();
        let program = Program::start(&mut command, move |line| {
            to.push(line);
            true
        });
        Self { log, program }
    }

    /// It runs within bounds, and ends in order when asked.
    pub(crate) async fn ends(mut self) -> Checked {
        let process = format!("/proc/{}", self.program.0.id());
        let status = fs::read_to_string(format!("{process}/status")).map_err(|error| error.to_string())?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("it has ended")?;
        let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
        let descriptors = fs::read_dir(format!("{process}/fd")).map_err(|error| error.to_string())?.count();
        if peak > MEMORY_KIB || descriptors > DESCRIPTORS {
            return Err(format!("took {peak} KiB and {descriptors} descriptors"));
        }
        kill(Pid::from_raw(self.program.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.exits_with(0).await
    }

    /// It ends by itself.
    pub(crate) async fn fails(mut self, texts: &[&str]) -> Checked {
        self.exits_with(1).await?;
        self.log.has(texts).await
    }

    async fn exits_with(&mut self, expected: i32) -> Checked {
        for _ in 0..500 {
            match self.program.0.try_wait().unwrap() {
                Some(status) if status.code() == Some(expected) => return Ok(()),
                Some(status) => return Err(format!("{status}")),
                None => sleep(Duration::from_millis(20)).await,
            }
        }
        Err("it does not end".into())
    }
}
