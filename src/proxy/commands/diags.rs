// SPDX-License-Identifier: Apache-2.0

//! `proxy diags`: one archive with everything that a report about this proxy needs.
//!
//! Parts that cannot be collected, because no proxy runs or the kernel refuses, have their error in
//! the archive instead. Secrets of the environment are masked.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{admin, check, complain, print};
use crate::{chain::causes, proxy::debug, transport::Address};

/// Maximum size of a part, in bytes.
const MAX_PART: usize = 8 << 20;
/// Name of the file that means stdout.
const STDOUT: &str = "-";
/// The parts that the admin listener has, by path.
const SERVED: [(&str, &str); 4] = [
    ("state.json", "/state"),
    ("events.json", "/events"),
    ("chains.json", "/chains"),
    ("metrics.txt", "/metrics"),
];

/// The archive was not written.
#[derive(Debug, thiserror::Error)]
#[error("the archive {path} cannot be written, and nothing of it is left")]
struct WriteError {
    path: String,
    #[source]
    source: io::Error,
}

/// Collects the parts and writes the archive.
pub(super) async fn run(file: &Path, address: Option<Address>) -> ExitCode {
    let parts = collect(address.as_ref()).await;
    if file == Path::new(STDOUT) {
        return match archive(io::stdout().lock(), &parts) {
            Ok(()) => ExitCode::SUCCESS,
            Err(source) => complain(&WriteError { path: "on stdout".into(), source }),
        };
    }
    match write(file, &parts) {
        Ok(()) => print(format_args!("{}\n", file.display())),
        Err(source) => complain(&WriteError { path: file.display().to_string(), source }),
    }
}

/// A file of the archive.
struct Part {
    name: String,
    content: Vec<u8>,
}

impl Part {
    /// The content, or the error in a file of its own.
    fn of(name: &str, content: Result<impl Into<Vec<u8>>, impl std::error::Error + 'static>) -> Self {
        match content {
            Ok(content) => Self { name: name.into(), content: content.into() }.bounded(),
            Err(error) => {
                Self { name: format!("{name}.error"), content: format!("{}\n", causes(&error)).into() }
            }
        }
    }

    fn bounded(mut self) -> Self {
        if self.content.len() > MAX_PART {
            self.content.truncate(MAX_PART);
            self.name += ".cut";
        }
        self
    }
}

async fn collect(address: Option<&Address>) -> Vec<Part> {
    let mut parts = Vec::new();
    for (name, path) in SERVED {
        parts.push(Part::of(name, admin::get(address, path).await));
    }
    parts.push(Part::of("debug.json", debug::export().await));
    let checks = check::findings(address).await;
    parts.push(Part::of("check.json", serde_json::to_vec_pretty(&checks)));
    let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
    let about = format!("meridio-proxy {}\n{}\n", env!("CARGO_PKG_VERSION"), names.join("\n"));
    parts.insert(0, Part { name: "README".into(), content: about.into() });
    parts
}

/// Writes beside the file and renames, so that a failure leaves nothing.
fn write(path: &Path, parts: &[Part]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|file| archive(&file, parts).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _never_made = fs::remove_file(&beside);
    }
    written
}

fn archive(to: impl Write, parts: &[Part]) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut archive = tar::Builder::new(to);
    for Part { name, content } in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, Path::new("proxy-diags").join(name), content.as_slice())?;
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use std::{io::Read, thread};

    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };

    use super::*;

    fn part(size: usize) -> Part {
        Part { name: "a".into(), content: vec![b'x'; size] }.bounded()
    }

    #[test]
    fn an_archive_has_every_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("diags.tar");
        write(&path, &[part(3), Part::of("b", Err::<Vec<u8>, _>(io::Error::other("no proxy")))]).unwrap();
        let mut archive = tar::Archive::new(fs::File::open(&path).unwrap());
        let contents: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                (entry.path().unwrap().display().to_string(), text)
            })
            .collect();
        let expected = [("proxy-diags/a", "xxx"), ("proxy-diags/b.error", "no proxy\n")];
        assert_eq!(contents, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_part_that_is_too_large_is_cut() {
        let cut = part(MAX_PART + 1);
        assert_eq!((cut.name.as_str(), cut.content.len()), ("a.cut", MAX_PART));
        assert_eq!(part(MAX_PART).name, "a");
    }

    #[test]
    fn a_full_disk_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().to_owned();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root, or `lab exec`");
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .unwrap();
            mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=16k")).unwrap();
            let error = write(&disk.join("diags.tar"), &[part(1 << 20)]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
            write(&disk.join("diags.tar"), &[part(3)]).unwrap();
        })
        .join()
        .unwrap();
    }

    #[tokio::test]
    async fn without_a_proxy_the_kernel_and_the_checks_are_collected() {
        let folder = tempfile::tempdir().unwrap();
        let parts = collect(Some(&Address::Unix(folder.path().join("none")))).await;
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        assert!(names.contains(&"state.json.error") && names.contains(&"debug.json"), "{names:?}");
        assert!(names.contains(&"check.json") && names[0] == "README", "{names:?}");
    }
}
