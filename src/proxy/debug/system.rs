// SPDX-License-Identifier: Apache-2.0

//! Describes the machine from `/proc` and `/etc`. Facts that cannot be read are left empty.

use std::{fs, path::Path};

use serde::Serialize;

/// The machine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct System {
    cpu_info: Vec<Cpu>,
    host_info: Host,
}

/// A processor, as `/proc/cpuinfo` describes it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    cpu: u32,
    vendor_id: String,
    family: String,
    model: String,
    stepping: u32,
    physical_id: String,
    core_id: String,
    cores: u32,
    model_name: String,
    mhz: f64,
    cache_size: u32,
    flags: Vec<String>,
    microcode: String,
}

/// The host, as far as the container shows it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    hostname: String,
    uptime: u64,
    boot_time: u64,
    procs: usize,
    os: String,
    platform: String,
    platform_family: String,
    platform_version: String,
    kernel_version: String,
    kernel_arch: String,
    virtualization_system: String,
    virtualization_role: String,
    host_id: String,
}

impl System {
    pub(super) fn read() -> Self {
        Self { cpu_info: cpus(&text("/proc/cpuinfo")), host_info: host() }
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The processors that a `/proc/cpuinfo` lists.
fn cpus(text: &str) -> Vec<Cpu> {
    let blocks = text.split("\n\n").filter(|block| block.starts_with("processor"));
    blocks.map(cpu).collect()
}

fn cpu(block: &str) -> Cpu {
    let mut cpu = Cpu { cores: 1, ..Cpu::default() };
    for (key, value) in block.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        let number = || value.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        match key.trim() {
            "processor" => cpu.cpu = number(),
            "vendor_id" => value.clone_into(&mut cpu.vendor_id),
            "cpu family" => value.clone_into(&mut cpu.family),
            "model" => value.clone_into(&mut cpu.model),
            "model name" => value.clone_into(&mut cpu.model_name),
            "stepping" => cpu.stepping = number(),
            "physical id" => value.clone_into(&mut cpu.physical_id),
            "core id" => value.clone_into(&mut cpu.core_id),
            "cpu MHz" => cpu.mhz = value.parse().unwrap_or_default(),
            "cache size" => cpu.cache_size = number(),
            "flags" | "Features" => cpu.flags = value.split(' ').map(str::to_owned).collect(),
            "microcode" => value.clone_into(&mut cpu.microcode),
            _ => {}
        }
    }
    cpu
}

fn host() -> Host {
    let uname = rustix::system::uname();
    let lossy = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let release = text("/etc/os-release");
    let of_release = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let uptime = text("/proc/uptime");
    let stat = text("/proc/stat");
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
    let ids = ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"].map(text);
    Host {
        hostname: lossy(uname.nodename()),
        uptime: uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default(),
        boot_time: boot.and_then(|seconds| seconds.parse().ok()).unwrap_or_default(),
        procs: processes(),
        os: "linux".to_owned(),
        platform: of_release("ID"),
        platform_family: of_release("ID_LIKE"),
        platform_version: of_release("VERSION_ID"),
        kernel_version: lossy(uname.release()),
        kernel_arch: lossy(uname.machine()),
        host_id: ids.iter().find(|id| !id.is_empty()).map(|id| id.trim().to_owned()).unwrap_or_default(),
        ..Host::default()
    }
}

fn processes() -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_of_a_cpuinfo_is_described() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: Fast\ncpu MHz\t\t: \
                    2100.5\ncache size\t: 8192 KB\nflags\t\t: fpu vme\n\nprocessor\t: 1\nstepping\t: 3\n\nHardware: x\n";
        let found = cpus(text);
        let [first, second] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((first.cpu, first.vendor_id.as_str(), first.family.as_str()), (0, "GenuineIntel", "6"));
        assert_eq!((first.model_name.as_str(), first.mhz, first.cache_size), ("Fast", 2100.5, 8192));
        assert_eq!(first.flags, ["fpu", "vme"]);
        assert_eq!((second.cpu, second.stepping), (1, 3));
    }

    #[test]
    fn this_machine_is_described() {
        let System { cpu_info, host_info } = System::read();
        assert!(!cpu_info.is_empty() && !host_info.kernel_version.is_empty() && host_info.procs > 0);
    }
}
