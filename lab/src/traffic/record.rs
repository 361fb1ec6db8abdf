// SPDX-License-Identifier: Apache-2.0
//! The datagrams of a stream: when each was sent, and whether it arrived.

use std::{ops::Range, time::Duration};

use tokio::time::Instant;

/// The datagrams of every flow of a stream, in the order in which they were sent.
#[derive(Debug, Default)]
pub struct Record(Vec<Flow>);

#[derive(Debug, Default)]
struct Flow {
    datagrams: Vec<Datagram>,
    receiver: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    sent: Instant,
    arrived: bool,
}

/// The loss of some flows in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
    /// Longest time, in one flow, from a datagram that was lost to the next one that arrived.
    pub longest_gap: Duration,
    /// Time from the start of the period to the first datagram after the last lost one, in the flow
    /// that took longest; `None` if the last datagram of a flow was lost.
    pub whole_after: Option<Duration>,
}

impl Record {
    /// A record of so many flows.
    pub fn new(flows: usize) -> Self {
        Self((0..flows).map(|_| Flow::default()).collect())
    }

    /// Adds a datagram to a flow. Returns its number.
    pub fn sent(&mut self, flow: usize, at: Instant) -> u64 {
        let Some(flow) = self.0.get_mut(flow) else { return 0 };
        flow.datagrams.push(Datagram { sent: at, arrived: false });
        flow.datagrams.len() as u64 - 1
    }

    /// Records the arrival of a datagram at a receiver. One that was never sent is ignored.
    pub fn arrived(&mut self, flow: usize, number: u64, receiver: usize) {
        let Some(flow) = self.0.get_mut(flow) else { return };
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(datagram) = flow.datagrams.get_mut(number) {
            datagram.arrived = true;
            flow.receiver = Some(receiver);
        }
    }

    /// The receiver of each flow: where its last datagram to arrive was received.
    pub fn receivers(&self) -> Vec<Option<usize>> {
        self.0.iter().map(|flow| flow.receiver).collect()
    }

    /// The loss in a period, of those flows for which `of` is true.
    pub fn loss(&self, period: Range<Instant>, of: impl Fn(usize) -> bool) -> Loss {
        let flows = self.0.iter().enumerate().filter(|(number, _)| of(*number));
        let losses = flows.map(|(_, flow)| flow.loss(&period));
        losses.fold(Loss { whole_after: Some(Duration::ZERO), ..Loss::default() }, Loss::and)
    }
}

impl Loss {
    /// The loss of these and of other flows in the same period.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            lost: self.lost + other.lost,
            longest_gap: self.longest_gap.max(other.longest_gap),
            whole_after: self.whole_after.zip(other.whole_after).map(|(one, two)| one.max(two)),
        }
    }
}

impl Flow {
    fn loss(&self, period: &Range<Instant>) -> Loss {
        let start = self.datagrams.partition_point(|datagram| datagram.sent < period.start);
        let end = self.datagrams.partition_point(|datagram| datagram.sent < period.end).max(start);
        let mut loss = Loss { whole_after: Some(Duration::ZERO), ..Loss::default() };
        let mut gap_since = None;
        for datagram in &self.datagrams[start..end] {
            loss.sent += 1;
            if !datagram.arrived {
                loss.lost += 1;
                gap_since.get_or_insert(datagram.sent);
            } else if let Some(since) = gap_since.take() {
                loss.longest_gap = loss.longest_gap.max(datagram.sent - since);
                loss.whole_after = Some(datagram.sent - period.start);
            }
        }
        if let Some(since) = gap_since {
            loss.longest_gap = loss.longest_gap.max(period.end - since);
            loss.whole_after = None;
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(10);

    /// A record of flows, one datagram for each letter: `.` arrived, `x` was lost.
    fn record(flows: &[&str], start: Instant) -> Record {
        let mut record = Record::new(flows.len());
        for (flow, letters) in flows.iter().enumerate() {
            for (letter, count) in letters.chars().zip(0..) {
                let number = record.sent(flow, start + PACE * count);
                if letter == '.' {
                    record.arrived(flow, number, flow);
                }
            }
        }
        record
    }

    fn loss(sent: u64, lost: u64, longest_gap: u64, whole_after: Option<u64>) -> Loss {
        let longest_gap = Duration::from_millis(longest_gap);
        Loss { sent, lost, longest_gap, whole_after: whole_after.map(Duration::from_millis) }
    }

    #[test]
    fn loss_is_counted_and_timed_by_flow() {
        let start = Instant::now();
        let table = [
            (&["...."][..], loss(4, 0, 0, Some(0))),
            (&["....", "...."], loss(8, 0, 0, Some(0))),
            (&[".x..", "...."], loss(8, 1, 10, Some(20))),
            (&[".xx.", "x..."], loss(8, 3, 20, Some(30))),
            (&["x.x.", "...."], loss(8, 2, 10, Some(30))),
            (&["...x", ".xx."], loss(8, 3, 20, None)),
            (&["xxxx"], loss(4, 4, 40, None)),
            (&[], loss(0, 0, 0, Some(0))),
        ];
        for (flows, expected) in table {
            let record = record(flows, start);
            assert_eq!(record.loss(start..start + PACE * 4, |_| true), expected, "{flows:?}");
        }
    }

    #[test]
    fn a_period_and_a_choice_of_flows_leave_the_others_out() {
        let start = Instant::now();
        let record = record(&["xx....", "....xx"], start);
        let middle = start + PACE * 2..start + PACE * 4;
        assert_eq!(record.loss(middle, |_| true), loss(4, 0, 0, Some(0)));
        assert_eq!(record.loss(start..start + PACE * 6, |flow| flow == 0), loss(6, 2, 20, Some(20)));
        let end = start + PACE * 3..start + PACE * 6;
        assert_eq!(record.loss(end, |flow| flow == 1), loss(3, 2, 20, None));
        let nothing = start + PACE * 3..start + PACE;
        assert_eq!(record.loss(nothing, |_| true), loss(0, 0, 0, Some(0)));
    }

    #[test]
    fn an_arrival_of_something_that_was_never_sent_is_ignored() {
        let start = Instant::now();
        let mut record = record(&["x"], start);
        record.arrived(0, 1, 7);
        record.arrived(1, 0, 7);
        assert_eq!(record.receivers(), [None]);
        record.arrived(0, 0, 7);
        assert_eq!(record.receivers(), [Some(7)]);
    }
}
