// SPDX-License-Identifier: Apache-2.0

//! Measures a plan: in the desired state (as in most passes of the reconciler), from nothing, and
//! the rules of a VIP list.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, hint::black_box, net::IpAddr, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ipnet::IpNet;
use nsm::kernel::{Backend, Desired, Mac, Memory, Observed, Ours, plan, vip_rules};

/// VIPs that cannot be merged.
fn vips(count: u32) -> Vec<IpNet> {
    (0..count).map(|i| IpNet::new(IpAddr::from((0x1400_0000 + i * 2).to_be_bytes()), 32).unwrap()).collect()
}

fn desired(vip_count: u32, hop_count: u32) -> Desired {
    let ours = Ours::default();
    Desired {
        addresses: Some(["172.16.0.1/16".parse().unwrap()].into()),
        ports: (0..hop_count).map(|i| format!("lb-{i}").parse().unwrap()).collect(),
        next_hops: (0..hop_count)
            .map(|i| IpAddr::from((0xac10_0000 + 2 + i).to_be_bytes()))
            .collect::<BTreeSet<_>>(),
        vip_rules: Some(Arc::new(vip_rules(&ours, &vips(vip_count)))),
        ..Desired::nothing(ours, Mac::derive(&[]))
    }
}

/// A kernel that has only the links, and one after everything was made.
fn before_and_after(desired: &Desired) -> (Observed, Observed) {
    let mut linux = Memory::default();
    desired.ports.iter().for_each(|port| drop(linux.add_link(port.as_str(), None).to_string()));
    let before = linux.observed(&desired.ours);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for op in plan(&before, desired) {
        runtime.block_on(linux.apply(&desired.ours, &op)).unwrap();
    }
    let after = linux.observed(&desired.ours);
    assert_eq!(plan(&after, desired), []);
    (before, after)
}

fn plans(c: &mut Criterion) {
    for vip_count in [10, 100, 1000] {
        for hop_count in [2, 10, 100] {
            let desired = desired(vip_count, hop_count);
            let (before, after) = before_and_after(&desired);
            let size = format!("{vip_count}x{hop_count}");
            c.bench_function(&format!("plan/clean/{size}"), |b| b.iter(|| plan(black_box(&after), &desired)));
            c.bench_function(&format!("plan/fresh/{size}"), |b| {
                b.iter(|| plan(black_box(&before), &desired))
            });
        }
    }
}

fn rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan/vip_rules");
    for count in [10, 100, 1000, 10_000] {
        let ours = Ours::default();
        let vips = vips(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| vip_rules(&ours, black_box(&vips)))
        });
    }
    group.finish();
}

criterion_group!(benches, plans, rules);
criterion_main!(benches);
