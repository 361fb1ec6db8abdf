// SPDX-License-Identifier: Apache-2.0

//! Checks the Dockerfile without a Docker engine.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dockerfile() -> String {
    fs::read_to_string(root().join("Dockerfile")).unwrap()
}

/// Copies a file or folder of the tree, without the products of builds.
fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_name() != "bin" || !from.ends_with("interop") {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

#[test]
fn the_image_is_built_from_all_that_cargo_needs() {
    let place = tempfile::tempdir().unwrap();
    for line in dockerfile().lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        let (to, from) = words.split_last().unwrap();
        for name in from {
            let to = if *to == "./" { name } else { to };
            copy(&root().join(name), &place.path().join(to));
        }
    }
    // Reads the manifests and the lock file, and finds every target of them.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]).current_dir(place.path());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_user_of_the_image_is_that_of_the_manifest() {
    let manifest = fs::read_to_string(root().join("deploy/base/daemonset.yaml")).unwrap();
    assert!(dockerfile().contains("\nUSER 10005:10005\n"));
    assert!(manifest.contains("runAsUser: 10005\n") && manifest.contains("runAsGroup: 10005\n"));
    assert!(dockerfile().contains("/rootfs/bin/grpc_health_probe"));
    assert_eq!(manifest.matches("- /bin/grpc_health_probe\n").count(), 3);
}
