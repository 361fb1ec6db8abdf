// SPDX-License-Identifier: Apache-2.0

use super::*;

fn set(board: &mut Board, part: Part, serving: bool, reason: &str) {
    board.set(part, State { serving, reason: reason.into(), outside: false });
}

fn serving(board: &Board, name: &str) -> bool {
    board.of(name).unwrap().serving
}

fn waits(on: &str) -> Progress {
    Progress::Waits(on.into())
}

#[test]
fn readiness_is_all_four_and_liveness_the_endpoint() {
    for pattern in 0..16u8 {
        let mut board = Board::default();
        set(&mut board, Part::Endpoint, true, "");
        for (bit, part) in Part::ALL.into_iter().enumerate() {
            set(&mut board, part, pattern & (1 << bit) != 0, "why");
        }
        assert_eq!(serving(&board, READINESS), pattern == 15, "{pattern:04b}");
        assert_eq!(serving(&board, LIVENESS), pattern & 4 != 0, "{pattern:04b}");
        assert!(serving(&board, SERVER));
        for (bit, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(serving(&board, part.name()), pattern & (1 << bit) != 0);
        }
    }
}

#[test]
fn only_seven_names_are_known_and_no_part_serves_at_first() {
    let board = Board::default();
    for name in ["IPAMCli", "NSPCli", "NSMEndpoint", "Egress", "Readiness"] {
        assert!(!serving(&board, name), "{name}");
    }
    for unknown in ["liveness", "Startup", "egress", "x"] {
        assert_eq!(board.of(unknown), None);
    }
}

#[test]
fn only_a_step_of_the_start_that_is_late_takes_liveness_down() {
    let mut board = Board::default();
    assert_eq!(board.working_on(), Some("the start"));
    assert!(board.late() && !board.late());
    board.progress(Progress::Works("the start", Some("refused".into())));
    assert!(!serving(&board, LIVENESS), "another failure of the same step");
    assert!(board.progress(waits("IPAM")));
    assert!(!board.progress(waits("IPAM")));
    assert_eq!(board.working_on(), None, "a restart would not bring IPAM");
    let liveness = board.of(LIVENESS).unwrap();
    assert_eq!((liveness.serving, liveness.reason.as_str()), (true, "waits on IPAM"));
    set(&mut board, Part::Endpoint, true, "");
    assert!(serving(&board, LIVENESS));
}

#[test]
fn once_the_endpoint_has_served_the_start_is_over() {
    let mut board = Board::default();
    set(&mut board, Part::Endpoint, true, "");
    assert!(!board.progress(waits("IPAM")));
    set(&mut board, Part::Endpoint, false, "connection refused");
    let liveness = board.of(LIVENESS).unwrap();
    assert_eq!((liveness.serving, liveness.reason.as_str()), (false, "connection refused"));
    assert!(!board.late());
}

#[test]
fn an_endpoint_with_a_fault_outside_the_process_is_alive() {
    let mut board = Board::default();
    set(&mut board, Part::Endpoint, true, "");
    board.set(Part::Endpoint, State { serving: false, reason: "no identity yet".into(), outside: true });
    assert!(!serving(&board, READINESS));
    let liveness = board.of(LIVENESS).unwrap();
    assert_eq!((liveness.serving, liveness.reason.as_str()), (true, "no identity yet"));
}

#[test]
fn a_readiness_that_fails_names_every_part_that_does() {
    let mut board = Board::default();
    board.progress(waits("IPAM"));
    let reason = board.of(READINESS).unwrap().reason;
    assert!(reason.starts_with("start: waits on IPAM; IPAMCli: not started; "), "{reason}");
    set(&mut board, Part::Endpoint, true, "");
    set(&mut board, Part::Ipam, true, "");
    set(&mut board, Part::Egress, false, "no load balancer");
    let reason = board.of(READINESS).unwrap().reason;
    assert_eq!(reason, "NSPCli: not started; Egress: no load balancer");
}

#[test]
fn a_reason_is_never_empty() {
    let mut board = Board::default();
    for part in Part::ALL {
        for serving in [false, true] {
            set(&mut board, part, serving, " ");
            for name in [part.name(), READINESS, LIVENESS, SERVER] {
                assert!(!board.of(name).unwrap().reason.trim().is_empty(), "{name} {serving}");
            }
        }
    }
}

#[test]
fn a_part_that_serves_is_degraded_until_its_source_ends_it() {
    let mut board = Board::default();
    for part in Part::ALL {
        set(&mut board, part, true, "well");
    }
    let gone = "NSP is away".to_owned();
    let odd = "odd sysctl".to_owned();
    let changes = board.degrade(Part::Egress, "vips", vec![gone.clone()]);
    assert_eq!((changes.begun, changes.over), (vec![gone.clone()], vec![]));
    assert!(board.degrade(Part::Egress, "vips", vec![gone.clone()]).is_empty(), "said once");
    board.degrade(Part::Egress, "kernel", vec![odd.clone()]);
    let egress = board.of("Egress").unwrap();
    assert!(egress.serving && egress.degraded.len() == 2);
    assert_eq!(egress.to_string(), "well; degraded: odd sysctl; degraded: NSP is away");
    let readiness = board.of(READINESS).unwrap();
    assert!(readiness.serving && readiness.degraded.contains(&"Egress: NSP is away".to_owned()));
    let changes = board.degrade(Part::Egress, "vips", vec![]);
    assert_eq!((changes.begun, changes.over), (vec![], vec![gone]));
    assert_eq!(board.of("Egress").unwrap().degraded, [odd]);
}

#[test]
fn the_faults_of_one_source_are_bounded() {
    let mut board = Board::default();
    board.degrade(Part::Egress, "kernel", (0..1000).map(|n| n.to_string()).collect());
    let degraded = board.of("Egress").unwrap().degraded;
    assert_eq!((degraded.len(), degraded[16].as_str()), (17, "and 984 more"));
}
