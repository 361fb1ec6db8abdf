// SPDX-License-Identifier: Apache-2.0
//! Performs a run: builds the world, goes through the steps, judges each.
//!
//! A step that finds a promise broken reports it in its verdict, and the run continues. A step that
//! cannot be done ends the run, because later steps would prove nothing.

mod bring_up;
mod chaos;
mod columns;
mod commands;
mod console;
mod end;
mod exported;
mod faults;
mod late;
mod leaks;
pub mod leftovers;
mod life;
mod nodes;
pub mod plan;
mod reach;
mod refresh;
mod traces;
mod traffic;
pub mod verdict;
mod vips;

use std::time::Instant;

use self::{
    leftovers::Baseline,
    plan::Plan,
    verdict::{Report, Verdict},
};
use crate::{
    error::{Doing, LabError},
    eventually::eventually,
    pods::ground::{Ground, OTHER, PROXY},
    topology::Topology,
    world::{World, components::Component},
};
use nsm::chain::causes;

/// Number of lines of the proxy's log that a failed verdict shows.
const LOG: usize = 40;

/// A run, with its world for as long as that is alive.
pub struct Run {
    world: World,
    plan: Plan,
    story: Story,
    report: Report,
    glances: faults::Glances,
    started: Instant,
}

/// The purpose of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// The first look, and the faults.
    OneNode,
    /// Two nodes.
    TwoNodes,
    /// Everything runs, for the console.
    Console,
    /// The trace of one Request.
    Traces,
    /// The random faults of a seed.
    Chaos(u64),
}

impl Run {
    /// Goes through every story of a plan, each in a new world; to keep the world, through all but
    /// the end of the last one.
    ///
    /// # Errors
    /// A world could not be built.
    pub async fn perform(
        topology: &Topology,
        ground: &Ground,
        plan: &Plan,
    ) -> Result<(Report, Option<Self>), LabError> {
        let two_nodes = Topology::two_nodes();
        let mut all = Report::default();
        let mut last = None;
        let mut others = Report::default();
        for story in plan.stories() {
            let topology = if story == Story::TwoNodes { &two_nodes } else { topology };
            let (report, run) = Self::tell(story, topology, ground, plan, PROXY).await?;
            all.append(report);
            last = run;
            if plan.compare {
                drop(last.take());
                eprintln!("\nThe same with the other program.");
                others.append(Self::tell(story, topology, ground, plan, OTHER).await?.0);
            }
        }
        if plan.compare {
            all.compare(others);
        }
        Ok((all, last))
    }

    async fn tell(
        story: Story,
        topology: &Topology,
        ground: &Ground,
        plan: &Plan,
        program: &'static str,
    ) -> Result<(Report, Option<Self>), LabError> {
        eprintln!("{topology}\n");
        let baseline = Baseline::now().doing(|| "count descriptors".into())?;
        let started = Instant::now();
        let world = World::build(topology, ground, plan.peers, program).await?;
        let mut run = Self {
            world,
            plan: plan.clone(),
            story,
            report: Report::default(),
            glances: faults::Glances::default(),
            started,
        };
        if plan.peers {
            run.report.leave_out("connections that nsmgr has at the end: it shows each to its owner only");
        }
        let done = match story {
            Story::OneNode => run.one_node().await,
            Story::Console => bring_up::everything(&mut run).await,
            Story::TwoNodes => nodes::story(&mut run).await,
            Story::Traces => traces::story(&mut run).await,
            Story::Chaos(seed) => chaos::story(&mut run, seed).await,
        };
        let failed = match done {
            Err(error) => Some(error),
            Ok(()) if plan.keep && !plan.compare => None,
            Ok(()) => end::close_everything(&mut run).await.err(),
        };
        if let Some(error) = &failed {
            run.judge(Verdict::new("the run came to its end", false).figure("stopped by", causes(error)));
        }
        if plan.keep && program == PROXY && !plan.compare {
            return Ok((run.report.clone(), Some(run)));
        }
        Ok((end::leave(run, baseline).await?, None))
    }

    async fn one_node(&mut self) -> Result<(), LabError> {
        leaks::show_that_the_counter_counts(self).await?;
        bring_up::start_proxy(self).await?;
        bring_up::connect_targets(self).await?;
        leaks::quiet(self, "nothing leaks before the first VIP list").await?;
        self.world.start(Component::Nsp)?;
        leaks::quiet(self, "nothing leaks with an empty VIP list").await?;
        bring_up::publish_vips(self);
        leaks::quiet(self, "nothing leaks without a load balancer").await?;
        bring_up::start_lbs(self).await?;
        reach::everywhere(self, "UDP and TCP over every VIP and target").await?;
        if self.plan.first_look() {
            commands::see_a_proxy_that_is_well(self).await?;
            self.first_look().await?;
        }
        faults::all(self).await
    }

    /// Connections, VIPs, a late IPAM and a restart.
    async fn first_look(&mut self) -> Result<(), LabError> {
        life::of_a_connection(self).await?;
        refresh::costs_no_ipam_call(self).await?;
        refresh::survives_a_rotation(self).await?;
        vips::come_and_go_under_traffic(self).await?;
        vips::an_empty_list_is_held(self).await?;
        end::judge_memory(self)?;
        late::targets_join_while_ipam_is_late(self).await?;
        end::restart_under_traffic(self).await?;
        reach::everywhere(self, "UDP and TCP over every VIP and target after a restart").await
    }

    /// Adds a verdict, and shows it.
    fn judge(&mut self, mut verdict: Verdict) {
        match self.story {
            Story::TwoNodes => verdict.name = format!("two nodes: {}", verdict.name),
            // Of the others, only failed ones are shown for each seed.
            Story::Chaos(_) if verdict.ok && !verdict.figures.contains_key("seed") => return,
            Story::OneNode | Story::Console | Story::Traces | Story::Chaos(_) => {}
        }
        eprintln!("{:>6.2} s  {verdict}", self.started.elapsed().as_secs_f64());
        if !verdict.ok {
            self.show_log();
        }
        self.report.add(verdict);
    }

    fn show_log(&self) {
        for proxy in &self.world.proxies {
            if let Some(process) = &proxy.process {
                eprintln!("\nThe last words of {}:\n{}\n", proxy.name(), process.tail(LOG));
            }
        }
        if let Some(tail) = self.world.control.tail(LOG) {
            eprintln!("\nThe last words of registry and nsmgr:\n{tail}\n");
        }
    }
}
