// SPDX-License-Identifier: Apache-2.0
//! Confines a thread, and the process it starts, to the seccomp profile of `deploy/`.

use std::{io, sync::OnceLock};

use seccompiler::{BpfProgram, apply_filter, compile_from_json};
use serde_json::{Value, json};

/// The profile that nodes load.
const PROFILE: &str = include_str!("../../../deploy/components/seccomp/meridio-proxy.json");

/// Confines this thread, whose capabilities are its last ones already. A system call that the
/// profile does not allow fails.
///
/// # Errors
/// The profile cannot be compiled for this machine, or the kernel has no filters.
pub fn confine() -> io::Result<()> {
    static FILTERS: OnceLock<Result<Vec<BpfProgram>, String>> = OnceLock::new();
    let filters = FILTERS.get_or_init(|| compile(PROFILE).map_err(|error| error.to_string()));
    let filters = filters.as_ref().map_err(|error| io::Error::other(error.clone()))?;
    filters.iter().try_for_each(|filter| apply_filter(filter).map_err(io::Error::other))
}

/// The filters of a profile, the default one last: after it, this thread can set no other. Of
/// several filters, the strictest answer counts.
fn compile(profile: &str) -> Result<Vec<BpfProgram>, Box<dyn std::error::Error + Send + Sync>> {
    let profile: Value = serde_json::from_str(profile)?;
    let rules = profile["syscalls"].as_array().ok_or("there are no syscalls")?;
    let mut filters = Vec::new();
    let mut allowed = Vec::new();
    for rule in rules {
        let names = rule["names"].as_array().into_iter().flatten();
        let known = names.filter(|name| {
            one(&json!({"match": "allow", "else": "trap"}), &[json!({"syscall": name})]).is_ok()
        });
        let listed: Vec<_> = known.map(|name| json!({"syscall": name, "args": arguments(rule)})).collect();
        allowed.extend(listed.iter().cloned());
        if rule["action"] == "SCMP_ACT_ERRNO" && !listed.is_empty() {
            filters.push(one(&json!({"match": {"errno": rule["errnoRet"]}, "else": "allow"}), &listed)?);
        }
    }
    let default = json!({"match": "allow", "else": {"errno": profile["defaultErrnoRet"]}});
    filters.push(one(&default, &allowed)?);
    Ok(filters)
}

/// The conditions of a rule; `None` without any.
fn arguments(rule: &Value) -> Option<Vec<Value>> {
    let all = rule["args"].as_array()?.iter();
    Some(
        all.map(|argument| {
            json!({
                "index": argument["index"],
                "type": "qword",
                "op": {"masked_eq": argument["value"]},
                "val": argument["valueTwo"],
            })
        })
        .collect(),
    )
}

/// A filter with these actions for the listed system calls and for others.
fn one(actions: &Value, listed: &[Value]) -> Result<BpfProgram, Box<dyn std::error::Error + Send + Sync>> {
    let filter =
        json!({"match_action": actions["match"], "mismatch_action": actions["else"], "filter": listed});
    let text = json!({"proxy": filter}).to_string();
    let mut filters = compile_from_json(text.as_bytes(), std::env::consts::ARCH.try_into()?)?;
    Ok(filters.remove("proxy").ok_or("nothing was compiled")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_profile_can_be_compiled() {
        let filters = compile(PROFILE).unwrap();
        assert_eq!(filters.len(), 2, "clone3, and all others");
    }

    #[test]
    fn a_thread_is_confined_to_the_profile() {
        let confined = std::thread::spawn(|| {
            confine().unwrap();
            let allowed = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            (allowed, nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER))
        });
        let (status, refused) = confined.join().unwrap();
        assert!(status.contains("Seccomp:\t2\n"), "{status}");
        assert_eq!(refused, Err(nix::errno::Errno::EPERM));
    }
}
