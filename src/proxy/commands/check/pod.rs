// SPDX-License-Identifier: Apache-2.0

//! Checks of the process and its container: capabilities, seccomp, sockets, descriptors, clock,
//! files.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{Access, access},
    io::Errno,
    net::{AddressFamily, SocketType},
};

use super::Finding;
use crate::{
    chain::causes,
    proxy::{capabilities, config::Mistake, health, log::timestamp},
    transport::descriptors,
};

/// The first day of 2025: a clock before it is not set.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);

pub(super) fn capabilities() -> Finding {
    const GRANT: &str = "securityContext: {allowPrivilegeEscalation: true, capabilities: {add: [\"NET_ADMIN\", \
                         \"NET_RAW\"]}}, and on the file: setcap cap_net_admin,cap_net_raw=p";
    match capabilities::raise() {
        Ok(found) if found.net_raw => Finding::ok("capabilities", "NET_ADMIN, NET_RAW"),
        Ok(_) => {
            let breaks =
                "changed MAC addresses are not announced: neighbours learn them when their entries expire";
            Finding::warning("capabilities", "NET_ADMIN without NET_RAW", breaks, GRANT)
        }
        Err(error) => {
            let breaks = "links, routes and rules cannot be set: the proxy ends at its start";
            Finding::failed("capabilities", causes(&error).to_string(), breaks, GRANT)
        }
    }
}

/// The mode of this process, which is that of its container. A profile that forbids a system call
/// shows in the other checks.
pub(super) fn seccomp() -> Finding {
    seccomp_of(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn seccomp_of(status: &str) -> Finding {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (field("Seccomp:"), field("Seccomp_filters:")) {
        (Some("2"), None) => Finding::ok("seccomp", "a profile filters system calls"),
        (Some("2"), Some(count)) => {
            Finding::ok("seccomp", format!("a profile filters system calls; filters: {count}"))
        }
        (Some("0"), _) => Finding::warning(
            "seccomp",
            "no profile",
            "nothing; but an attacker who controls the process may use every system call",
            "securityContext: {seccompProfile: {type: RuntimeDefault}}",
        ),
        (mode, _) => Finding::warning(
            "seccomp",
            format!("mode {}", mode.unwrap_or("unknown")),
            "nothing; but it is not known whether system calls are filtered",
            "mount /proc; use a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

/// The kinds of sockets that the proxy needs, each with the function that fails without it. One of
/// packets needs NET_RAW, and one for IPv6 that the kernel has IPv6: other checks name these.
const SOCKETS: [(&str, AddressFamily, SocketType, &str); 4] = [
    (
        "unix",
        AddressFamily::UNIX,
        SocketType::STREAM,
        "nsmgr, SPIRE and health cannot be used: the proxy ends",
    ),
    (
        "IPv4",
        AddressFamily::INET,
        SocketType::STREAM,
        "IPAM and NSP cannot be called, and NSM_METRICS_PORT not served",
    ),
    ("IPv6", AddressFamily::INET6, SocketType::STREAM, "IPAM and NSP cannot be called by IPv6"),
    (
        "netlink",
        AddressFamily::NETLINK,
        SocketType::RAW,
        "links, routes and rules cannot be set: the proxy ends",
    ),
];

/// Makes a socket of each kind: a seccomp profile or a security module may forbid one.
pub(super) fn sockets() -> impl Iterator<Item = Finding> {
    let refused = SOCKETS.into_iter().filter_map(|(name, family, kind, breaks)| {
        socket(name, breaks, rustix::net::socket(family, kind, None).map(drop))
    });
    let refused: Vec<_> = refused.collect();
    let fine = refused.is_empty().then(|| {
        let names = SOCKETS.map(|(name, ..)| name).join(", ");
        Finding::ok("socket kinds", format!("{names} are permitted"))
    });
    refused.into_iter().chain(fine)
}

fn socket(name: &str, breaks: &str, made: rustix::io::Result<()>) -> Option<Finding> {
    let error = made.err().filter(|error| name != "IPv6" || *error != Errno::AFNOSUPPORT)?;
    let repair = "use the profile of deploy/components/seccomp, or RuntimeDefault: securityContext: \
                  {seccompProfile: {type: RuntimeDefault}}";
    Some(Finding::failed("socket kinds", format!("a {name} socket is refused: {error}"), breaks, repair))
}

pub(super) fn descriptors() -> Finding {
    let limit = descriptors::raise().unwrap_or_else(|_| descriptors::limit());
    let found = format!("at most {limit} descriptors");
    match limit >= descriptors::NEEDED {
        true => Finding::ok("descriptors", found),
        false => {
            let breaks = "peers share fewer connections: some are closed for newcomers";
            let needed = descriptors::NEEDED;
            let repair = format!("raise the limit of the container runtime: LimitNOFILE={needed}");
            Finding::warning("descriptors", found, breaks, repair)
        }
    }
}

pub(super) fn clock() -> Finding {
    clock_at(SystemTime::now())
}

fn clock_at(now: SystemTime) -> Finding {
    match now.duration_since(UNIX_EPOCH).unwrap_or_default() >= EARLIEST {
        true => Finding::ok("clock", timestamp(now)),
        false => {
            let breaks = "certificates and tokens are not valid yet: no peer accepts the proxy";
            Finding::failed("clock", timestamp(now), breaks, "set the clock of the node: chronyc makestep")
        }
    }
}

/// The folders in which the proxy makes its sockets and files.
pub(super) fn files() -> impl Iterator<Item = Finding> {
    Path::new(health::SOCKET).parent().into_iter().map(folder)
}

fn folder(path: &Path) -> Finding {
    match access(path, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::ok("files", format!("{} is writable", path.display())),
        Err(error) => {
            let found = format!("{} is not writable: {error}", path.display());
            let breaks = "health and the endpoint have no socket: the proxy ends at its start";
            let repair = format!("mount an emptyDir at {} that the user may write", path.display());
            Finding::failed("files", found, breaks, repair)
        }
    }
}

pub(super) fn mistake(mistake: &Mistake) -> Finding {
    let Mistake { variable, value, accepted } = mistake;
    let repair = format!("{variable}: {accepted}");
    Finding::failed("variables", format!("{variable}={value:?}"), "the proxy ends at its start", repair)
}

pub(super) fn warning(warning: &str) -> Finding {
    Finding::warning("variables", warning, "nothing: another value is used", "see proxy help variables")
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn a_process_without_a_seccomp_filter_is_a_warning() {
        for (status, state, found) in [
            ("Name:\tproxy\nSeccomp:\t2\nSeccomp_filters:\t1\n", State::Ok, "filters: 1"),
            ("Seccomp:\t2\n", State::Ok, "filters system calls"),
            ("Seccomp:\t0\nSeccomp_filters:\t0\n", State::Warning, "no profile"),
            ("Name:\tproxy\n", State::Warning, "unknown"),
        ] {
            let finding = seccomp_of(status);
            assert!(finding.state == state && finding.found.contains(found), "{status}: {finding:?}");
            assert_eq!(finding.repair.is_empty(), state == State::Ok, "{finding:?}");
        }
    }

    #[test]
    fn a_clock_that_is_not_set_fails() {
        assert_eq!(clock_at(UNIX_EPOCH).state, State::Failed);
        assert_eq!(clock_at(UNIX_EPOCH + EARLIEST).state, State::Ok);
        assert_eq!(clock().state, State::Ok);
    }

    #[test]
    fn a_socket_that_is_refused_has_its_effect() {
        let mut all = sockets();
        assert!(all.all(|finding| finding.state == State::Ok));
        assert_eq!(socket("IPv6", "IPAM", Err(Errno::AFNOSUPPORT)), None);
        let finding = socket("netlink", "links cannot be set", Err(Errno::PERM)).unwrap();
        assert_eq!((finding.state, &*finding.breaks), (State::Failed, "links cannot be set"));
        assert!(
            finding.found.contains("netlink") && finding.repair.contains("seccompProfile"),
            "{finding:?}"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_fails() {
        let there = tempfile::tempdir().unwrap();
        assert_eq!(folder(there.path()).state, State::Ok);
        let finding = folder(&there.path().join("none"));
        assert_eq!(finding.state, State::Failed);
        assert!(finding.repair.contains("emptyDir"), "{finding:?}");
    }

    #[test]
    fn a_variable_that_is_not_accepted_has_the_accepted_values() {
        let finding =
            mistake(&Mistake { variable: "NSM_MTU", value: "x".into(), accepted: "a number".into() });
        assert_eq!(
            (finding.state, &*finding.found, &*finding.repair),
            (State::Failed, "NSM_MTU=\"x\"", "NSM_MTU: a number")
        );
    }
}
