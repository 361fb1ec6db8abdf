// SPDX-License-Identifier: Apache-2.0

//! Measures the proxy and the twin of the Go proxy side by side, in the same run.
//!
//! `make bench-twin` runs it. Each program is started in a separate world, the same as the lab's,
//! as a process that has only its environment. Targets join through nsmgr and forwarder, and
//! callers request over the endpoint's unix socket with mTLS. IPAM serves one call at a time, as
//! Meridio's does; each takes 5 ms, except where only the endpoint is measured.
//!
//! Processor time and memory are those of the program alone. The time of a join includes nsmgr,
//! forwarder, kernel and IPAM, which are the same for both.
//!
//! `tests/interop/bin/proxy` is the other program, or `$INTEROP_BIN/proxy`. Without `--bench` each
//! measurement is repeated a few times only, to show that it works.
#![allow(clippy::unwrap_used, missing_docs)]

mod endpoint;
mod figures;
mod joins;
mod place;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use meridio_lab::{
    enter::{self, INSIDE, Outside},
    pods::ground::{Ground, OTHER, PROXY},
};
use nsm::chain::causes;

use self::{
    figures::{Figures, Table},
    place::Place,
};

/// Numbers of repetitions.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Worlds of each program, in turn. The median counts, because the load of the machine varies.
    worlds: usize,
    /// Targets that join one after the other, and callers that request for the first time.
    alone: usize,
    /// Targets that join at once, in each round.
    at_once: usize,
    rounds: usize,
    /// Time until announcements have been sent and IPAM's reserve is full again.
    settles: Duration,
    /// How long they then stay, without a call.
    idle: Duration,
    /// Connections that are refreshed at once, each without a pause.
    refreshed: usize,
    /// For how long.
    during: Duration,
    /// Targets that join ten at a time, and stay.
    many: usize,
}

impl Plan {
    const WHOLE: Self = Self {
        worlds: 3,
        alone: 10,
        at_once: 20,
        rounds: 3,
        settles: Duration::from_secs(5),
        idle: Duration::from_secs(10),
        refreshed: 8,
        during: Duration::from_secs(10),
        many: 110,
    };
    const SMOKE: Self = Self {
        worlds: 1,
        alone: 1,
        at_once: 3,
        rounds: 1,
        settles: Duration::ZERO,
        idle: Duration::from_millis(300),
        refreshed: 2,
        during: Duration::from_millis(300),
        many: 4,
    };

    fn targets(self) -> usize {
        self.alone + self.rounds * self.at_once
    }
}

/// The twin of the Go proxy.
fn twin() -> Result<PathBuf, String> {
    let folder = env::var_os("INTEROP_BIN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop/bin"), PathBuf::from);
    let program = folder.join("proxy");
    program
        .exists()
        .then(|| program.clone())
        .ok_or_else(|| format!("{} is missing: `make -C tests/interop build` makes it", program.display()))
}

async fn measure(ground: &Ground, program: &'static str, plan: Plan) -> Figures {
    let mut place = Place::build(ground, program, plan.targets()).await;
    let mut figures = Figures::default();
    figures.add("2 load balancers: resident KiB", place.resident());
    joins::measure(&mut place, plan, &mut figures).await;
    endpoint::measure(&mut place, plan, &mut figures).await;
    figures.add("after all of this: resident KiB", place.resident());
    place.end().await;
    let mut place = Place::build(ground, program, plan.many).await;
    joins::many(&mut place, plan.many, &mut figures).await;
    place.end().await;
    figures
}

fn inside(plan: Plan) -> Result<(), String> {
    let _outside = Outside::meet().map_err(|error| error.to_string())?;
    let proxy = Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("proxy");
    let programs = [(proxy, PROXY.into()), (twin()?, OTHER.into())];
    let ground = Ground::prepare(&programs).map_err(|error| causes(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let table = runtime.map_err(|error| error.to_string())?.block_on(async {
        let mut ours = Vec::new();
        let mut twin = Vec::new();
        for _world in 0..plan.worlds {
            ours.push(measure(&ground, PROXY, plan).await);
            twin.push(measure(&ground, OTHER, plan).await);
        }
        Table { ours: Figures::median(&ours), twin: Figures::median(&twin) }
    });
    println!("{table}");
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let done = if arguments.first().is_some_and(|first| first == INSIDE) {
        inside(if whole { Plan::WHOLE } else { Plan::SMOKE }).map(|()| 0)
    } else {
        arguments.retain(|argument| argument == "--bench");
        twin().and_then(|_| enter::run_inside(&arguments).map_err(|error| causes(&error)))
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("twin: {error}");
            ExitCode::FAILURE
        }
    }
}
