// SPDX-License-Identifier: Apache-2.0

//! A row of the table, and the checks that every row must pass.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use tonic::{Code, Status};

use nsm::testing::Lines;

use crate::{process::Place, target, world::World};

/// One input.
pub(crate) struct Row {
    /// Description of the bad input.
    pub(crate) input: &'static str,
    pub(crate) done: Done,
    pub(crate) says: Says,
}

/// The way to send it.
pub(crate) enum Done {
    /// To a serving proxy.
    Serving(for<'a> fn(&'a World) -> BoxFuture<'a, Outcome>),
    /// To a starting process, whose log must have these texts in one line.
    Starting(for<'a> fn(&'a Place, &'a [&'a str]) -> BoxFuture<'a, Checked>),
}

/// The expected report: in one status, or in one line of the log, all of the texts.
pub(crate) enum Says {
    Status(Code, &'static [&'static str]),
    Log(&'static [&'static str]),
    /// The input is accepted: the calls are answered, one after the other.
    Answers,
}

/// Ok, or a description of the failed check.
pub(crate) type Checked = Result<(), String>;

/// The caller's status (`None` if the calls succeed), or the check that the row itself found
/// failed.
pub(crate) type Outcome = Result<Option<Status>, String>;

/// Timeout of a row, with all its checks.
const ROW_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum length of a status in bytes, for any input: it is a header of the answer, and part of a
/// line in the log of each hop.
const MAX_STATUS: usize = 1024;
/// Maximum memory that a row may cost in KiB, including the memory of the test itself.
const MEMORY: usize = 24 << 10;

/// Sends the input of a row to a serving proxy, and makes all checks.
pub(crate) async fn check(world: &World, row: &Row) -> Checked {
    let Done::Serving(done) = &row.done else { return Err("is no row of a proxy that serves".into()) };
    let resident = resident_kib();
    world.log.clear();
    let checks = async {
        let told = done(world).await?;
        said(&row.says, told, &world.log).await?;
        world.log.clear();
        good_calls_work(world).await?;
        as_before(world).await
    };
    let started = Instant::now();
    let checked = tokio::time::timeout(ROW_TIMEOUT, checks).await;
    checked.unwrap_or_else(|_| Err(format!("not done within {:?}", started.elapsed())))?;
    match resident_kib().saturating_sub(resident) {
        ..=MEMORY => Ok(()),
        more => Err(format!("{more} KiB more are resident (accepted: {MEMORY})")),
    }
}

async fn said(says: &Says, told: Option<Status>, log: &Lines) -> Checked {
    match (says, told) {
        (Says::Answers, None) => Ok(()),
        (Says::Log(texts), None) => log.has(texts).await,
        (Says::Status(code, texts), Some(status)) => {
            let message = status.message();
            let all = texts.iter().all(|text| message.contains(text));
            match status.code() == *code && all && message.len() <= MAX_STATUS {
                true => Ok(()),
                false => Err(format!("{status:?} instead of {code:?} with {texts:?}")),
            }
        }
        (_, told) => Err(format!("the caller was told {told:?}")),
    }
}

/// A target that was connected before still is, and another one can connect and close.
async fn good_calls_work(world: &World) -> Checked {
    refreshed(world).await?;
    let good = target::established(world, "good").await?;
    target::closed(world, &good).await
}

/// Refreshes the standing connection: it keeps its addresses and its link.
pub(crate) async fn refreshed(world: &World) -> Checked {
    let stood = world.standing.clone();
    let answer = target::ask(world, target::request(stood.clone())).await;
    let answer = answer.map_err(|status| format!("a refresh of the connection that stands: {status}"))?;
    match answer.context == stood.context && answer.mechanism == stood.mechanism {
        true => Ok(()),
        false => Err(format!("a refresh answered {answer:?}, before it was {stood:?}")),
    }
}

/// The counts are the same as before the row.
async fn as_before(world: &World) -> Checked {
    for _ in 0..500 {
        if world.counts() == world.before {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("the state is\n{:?}\nand was\n{:?}", world.counts(), world.before))
}

/// Resident memory of this process.
fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
