// SPDX-License-Identifier: Apache-2.0

//! Tests random sequences of leases against the address service in memory, with paused time.
//!
//! After every step: each lease in hand is allocated under its name (never freed while held), no
//! address is in hand for two names (never held twice). At the end, with everything closed, the
//! service well and the delays over: the tree is empty (none lost).

use std::collections::HashMap;

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*};

use super::*;

const NAMES: usize = 4;
const LANES: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    /// A Request or a refresh of a lane: the new lease replaces the old one if it succeeds.
    Request { lane: usize, name: usize },
    /// A caller that leaves after some time.
    Leave { name: usize, after: u64 },
    /// A Close that succeeds: the lane drops its lease.
    Close { lane: usize, name: usize },
    /// A Close that fails: the lane keeps it.
    FailedClose { lane: usize, name: usize },
    /// All lanes request at once.
    Burst { name: usize },
    /// Time in milliseconds.
    Wait(u64),
    /// Faults of the next calls.
    Faults(Vec<Fault>),
    /// Fault of the service from now on.
    Stand(Fault),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        2 => (1u64..15_000).prop_map(|ms| Fault::Delay(Duration::from_millis(ms))),
        1 => Just(Fault::Fail(unavailable())),
        1 => Just(Fault::Fail(AllocateError::Exhausted("no more prefix available".into()))),
        1 => Just(Fault::Lose(unavailable())),
        1 => Just(Fault::Lose(AllocateError::Deadline)),
        1 => Just(Fault::Garble("banana".into(), 24)),
        1 => Just(Fault::Hang),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let at = || (0..LANES, 0..NAMES);
    prop_oneof![
        6 => at().prop_map(|(lane, name)| Step::Request { lane, name }),
        2 => (0..NAMES, 1u64..12_000).prop_map(|(name, after)| Step::Leave { name, after }),
        4 => at().prop_map(|(lane, name)| Step::Close { lane, name }),
        1 => at().prop_map(|(lane, name)| Step::FailedClose { lane, name }),
        1 => (0..NAMES).prop_map(|name| Step::Burst { name }),
        3 => (1u64..30_000).prop_map(Step::Wait),
        1 => (1u64..900_000).prop_map(Step::Wait),
        2 => vec(fault(), 1..5).prop_map(Step::Faults),
        1 => fault().prop_map(Step::Stand),
    ]
}

/// The leases in hand.
type Hands = HashMap<(usize, usize), Lease>;

async fn live(steps: &[Step]) -> Result<(), TestCaseError> {
    let world = World::new();
    let mut hands = Hands::new();
    for step in steps {
        take(&world, &mut hands, step).await;
        let problem = problem(&world, &hands);
        prop_assert!(problem.is_none(), "after {step:?}: {}", problem.unwrap_or_default());
    }
    world.faults().clear();
    hands.clear();
    sleep(300 * SECOND).await;
    prop_assert_eq!(world.children(), Vec::<String>::new(), "lost");
    let Status { wanted, held, releasing, moved, .. } = world.status();
    prop_assert_eq!((wanted, held, releasing, moved.len()), (0, 0, 0, 0));
    world.tasks.stop().await;
    Ok(())
}

async fn take(world: &World, hands: &mut Hands, step: &Step) {
    match step {
        &Step::Request { lane, name } => {
            if let Ok(lease) = world.acquire(&format!("name-{name}")).await {
                hands.insert((lane, name), lease);
            }
        }
        &Step::Leave { name, after } => {
            let deadline = Instant::now() + Duration::from_millis(after);
            drop(world.leases.acquire(&format!("name-{name}"), deadline).await);
        }
        &Step::Close { lane, name } => drop(hands.remove(&(lane, name))),
        &Step::FailedClose { lane, name } => {
            let kept = hands.get(&(lane, name)).cloned();
            hands.extend(kept.map(|lease| ((lane, name), lease)));
        }
        &Step::Burst { name } => {
            let name_text = format!("name-{name}");
            for (lane, lease) in
                join_all((0..LANES).map(|_| world.acquire(&name_text))).await.into_iter().enumerate()
            {
                hands.extend(lease.map(|lease| ((lane, name), lease)));
            }
        }
        &Step::Wait(ms) => sleep(Duration::from_millis(ms)).await,
        Step::Faults(faults) => world.faults().script(faults.iter().cloned()),
        Step::Stand(fault) => world.faults().stand(fault.clone()),
    }
}

/// The first violation, if any.
fn problem(world: &World, hands: &Hands) -> Option<String> {
    let mut owners = HashMap::<IpNet, &str>::new();
    for lease in hands.values() {
        for (family, &net) in lease.addresses().iter() {
            let allocated = world.allocator.tree().get(&subnet(), lease.child(), family);
            if allocated != Some(net) {
                return Some(format!("{} holds {net}, but has {allocated:?}", lease.child()));
            }
            let owner = *owners.entry(net).or_insert(lease.child());
            if owner != lease.child() {
                return Some(format!("{net} is held by {owner} and {}", lease.child()));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_address_is_held_twice_freed_while_held_or_lost(steps in vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live(&steps))?;
    }
}
