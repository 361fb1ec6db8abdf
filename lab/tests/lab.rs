// SPDX-License-Identifier: Apache-2.0
//! Tests the program `lab`: its output, its exit codes, and that it leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;

const LAB: &str = env!("CARGO_BIN_EXE_lab");

/// Runs the lab. It runs the `proxy` beside it.
fn lab(arguments: &[&str]) -> Command {
    let proxy = Path::new(LAB).with_file_name("proxy");
    assert!(proxy.exists(), "no {}: `cargo build --bins` makes it", proxy.display());
    let mut command = Command::new(LAB);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_first_packet_passes_and_everything_closed_leaves_nothing() {
    let output = lab(&["--smallest", "--json"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let last: Value = serde_json::from_str(stdout.lines().last().expect("a last line")).unwrap();
    assert_eq!(last["ok"], true, "{stderr}");
    assert_eq!(output.status.code(), Some(0));
    let verdicts = last["verdicts"].as_array().unwrap();
    let named = |name: &str| {
        let found = verdicts.iter().find(|verdict| verdict["name"] == name);
        found.unwrap_or_else(|| panic!("no verdict `{name}` in {last}"))
    };
    let reach = &named("UDP and TCP over every VIP and target")["figures"];
    assert!(reach["asked"].as_u64() > Some(0) && reach["asked"] == reach["answered"], "{reach}");
    let left = named("everything closed leaves nothing")["figures"].as_object().unwrap();
    for what in ["links", "rules", "routes", "leases", "sockets", "processes", "descriptors"] {
        assert_eq!(left[what], 0, "{what}");
    }
}

#[test]
fn a_fault_is_judged_in_each_direction_with_its_losses() {
    let output = lab(&["--only", "rules-deleted", "--json"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(stdout.lines().last().expect("a last line")).unwrap();
    let verdicts = last["verdicts"].as_array().unwrap();
    let of_faults = || verdicts.iter().filter(|verdict| !verdict["figures"]["fault"].is_null());
    let faults: Vec<_> = of_faults().map(|verdict| &verdict["figures"]["fault"]).collect();
    assert_eq!(faults, ["rules-deleted"], "{last}");
    let figures = &of_faults().next().unwrap()["figures"];
    assert_eq!(figures["leaked"], 0);
    for direction in ["ingress", "egress"] {
        assert!(figures[direction]["datagrams"].as_u64() > Some(0), "{figures}");
        for figure in ["lost", "longest gap ms", "whole again ms"] {
            assert!(figures[direction][figure].is_u64(), "{figure} of {direction} in {figures}");
        }
    }
}

#[test]
fn an_argument_that_is_not_known_is_named() {
    let output = lab(&["--jsno"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("`--jsno`"));
}

/// Starts the lab and reads its progress until a line contains `word`.
fn started_until(word: &str) -> Child {
    let mut child = lab(&[]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(word)), "the lab ended before `{word}`");
    // Keeps reading, so that the lab is never blocked by a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// Process ids of the present descendants of a process.
fn descendants(of: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let below = children.iter().flat_map(|child| descendants(*child)).collect::<Vec<_>>();
    children.into_iter().chain(below).collect()
}

fn gone(pids: &[u32]) {
    let end = Instant::now() + Duration::from_secs(10);
    let alive = |pid: &&u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    while pids.iter().any(|pid| alive(&pid)) {
        assert!(Instant::now() < end, "still there: {:?}", pids.iter().filter(alive).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_interrupt_or_a_kill_at_any_point_leaves_nothing() {
    let points = ["VIPs", "registers its endpoint", "is ready"];
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        for point in points {
            let mut child = started_until(point);
            let pids = descendants(child.id());
            assert!(!pids.is_empty(), "{point}");
            kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.code(), (signal == Signal::SIGINT).then_some(130), "{signal} at `{point}`");
            gone(&pids);
        }
    }
}

/// The output of `lab exec` for a user who may not create namespaces.
fn exec_without_privileges(command: &[&str]) -> Output {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // A capability belongs to a thread and its children. Root without it has no more
                // rights than an ordinary user.
                remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN).unwrap();
                lab(&[&["exec"], command].concat()).output().unwrap()
            })
            .join()
            .unwrap()
    })
}

#[test]
fn a_command_gets_its_arguments_and_gives_its_exit_status() {
    let output = lab(&["exec", "sh", "-c", r#"printf '<%s>' "$@"; exit 7"#, "sh", "--help", "", "a  b", "*"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "<--help><><a  b><*>");
    assert_eq!(output.status.code(), Some(7));
    let output = lab(&["exec", "no-such-command"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("`no-such-command`"));
    assert_eq!(lab(&["exec"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn exec_names_the_setting_that_refuses_a_user_namespace() {
    let output = exec_without_privileges(&["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/status"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    if !output.status.success() {
        assert!(stderr.contains("sysctl -w") && stderr.contains("as root"), "{stderr}");
        return;
    }
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("0"));
    let map: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!((map[0], map[2]), ("0", "1"), "one user, root, and nobody else: {map:?}");
    let effective = stdout.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
    assert_ne!(effective & CapabilitySet::SYS_ADMIN.bits(), 0, "it may make namespaces");
}
