// SPDX-License-Identifier: Apache-2.0
//! The steps of a run.

use super::{Story, faults::FAULTS, nodes};

/// The parts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Leave everything running at the end.
    pub keep: bool,
    /// Instead of the steps, bring everything up and leave it running.
    pub console: bool,
    /// nsmgr and registry are those of NSM's Go sdk.
    pub peers: bool,
    /// Instead of all this, the trace of one Request.
    pub traces: bool,
    /// After the first look, every fault.
    pub full: bool,
    /// If not empty, only these faults, and of the first look only the necessary steps.
    pub only: Vec<String>,
    /// Faults that are skipped.
    pub skip: Vec<String>,
    /// Instead of all this, this many random sequences of faults.
    pub chaos: u64,
    /// The seed of the first of them.
    pub seed: u64,
    /// Everything once more, with another program in the proxy's place.
    pub compare: bool,
}

impl Plan {
    /// Checks that every named fault exists.
    ///
    /// # Errors
    /// The first that does not, with those that do.
    pub fn check(&self) -> Result<(), String> {
        let known = || FAULTS.iter().map(|fault| fault.name).chain([nodes::NAME]);
        let unknown = self.only.iter().chain(&self.skip).find(|name| !known().any(|known| known == **name));
        match unknown {
            None => Ok(()),
            Some(name) => {
                let known: Vec<_> = known().collect();
                Err(format!("`{name}` is not a fault (accepted: {})", known.join(", ")))
            }
        }
    }

    /// Whether a fault is performed.
    pub(super) fn takes(&self, fault: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == fault);
        let chosen = if self.only.is_empty() { self.full } else { named(&self.only) };
        chosen && !named(&self.skip)
    }

    /// The stories in their order.
    pub(super) fn stories(&self) -> Vec<Story> {
        if self.console {
            return vec![Story::Console];
        }
        if self.traces {
            return vec![Story::Traces];
        }
        if self.chaos > 0 {
            return (self.seed..self.seed.saturating_add(self.chaos)).map(Story::Chaos).collect();
        }
        let one_node = self.only.is_empty() || self.only.iter().any(|name| name != nodes::NAME);
        let two_nodes = self.takes(nodes::NAME);
        let stories = [(Story::OneNode, one_node), (Story::TwoNodes, two_nodes)];
        stories.into_iter().filter_map(|(story, told)| told.then_some(story)).collect()
    }

    /// Whether the steps of the first look are performed, beside those that the others need.
    pub(super) fn first_look(&self) -> bool {
        self.only.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_chosen_by_name() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let full = |full: bool, only: &[&str], skip: &[&str]| Plan {
            full,
            only: names(only),
            skip: names(skip),
            ..Plan::default()
        };
        let taken = |plan: &Plan| FAULTS.iter().filter(|fault| plan.takes(fault.name)).count();
        assert_eq!(taken(&full(false, &[], &[])), 0);
        assert_eq!(taken(&full(true, &[], &[])), FAULTS.len());
        assert_eq!(taken(&full(true, &[], &["lb-hangs"])), FAULTS.len() - 1);
        assert_eq!(taken(&full(false, &["lb-hangs", "nsmgr-away"], &[])), 2);
        assert!(full(false, &["lb-hangs"], &["nsmgr-away"]).check().is_ok());
        assert_eq!(full(true, &[], &[]).stories(), [Story::OneNode, Story::TwoNodes]);
        assert_eq!(full(true, &[], &[nodes::NAME]).stories(), [Story::OneNode]);
        assert_eq!(full(false, &[nodes::NAME], &[]).stories(), [Story::TwoNodes]);
        let chaos = Plan { chaos: 2, seed: 7, ..Plan::default() };
        assert_eq!(chaos.stories(), [Story::Chaos(7), Story::Chaos(8)]);
        let console = Plan { console: true, full: true, ..Plan::default() };
        assert_eq!(console.stories(), [Story::Console]);
        let error = full(true, &[], &["lb-hang"]).check().unwrap_err();
        assert!(error.contains("`lb-hang`") && error.contains("lb-hangs"), "{error}");
    }

    #[test]
    fn every_fault_has_a_name_and_a_promise_of_its_own() {
        let names = FAULTS.iter().map(|fault| fault.name).collect::<Vec<_>>();
        let promises = FAULTS.iter().map(|fault| fault.promise).collect();
        for mut all in [names, promises] {
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), FAULTS.len());
        }
    }
}
