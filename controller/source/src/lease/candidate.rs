//! The rules of the election.

use super::Timing;
use std::time::Duration;
use tokio::time::Instant;

/// What the Lease says. Two that are equal are the same renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty when it was released.
    pub(super) holder: String,
    pub(super) lease: Duration,
    pub(super) transitions: i32,
    /// The holder's own time of renewal: only ever compared with itself.
    pub(super) stamp: String,
}

#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    timing: Timing,
    /// The last renewal and when it was first seen here.
    seen: Option<(Record, Instant)>,
    leads_until: Option<Instant>,
}

impl Candidate {
    pub(super) fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, leads_until: None }
    }

    /// The Lease was read at `now` or later. Gives what to write, if this candidate may take it or has to renew it.
    pub(super) fn look(&mut self, found: Option<Record>, now: Instant) -> Option<Record> {
        let Some(found) = found else {
            // Somebody deleted it, and who led knows nothing of that yet.
            let may_be_led = |(record, since): &(Record, Instant)| {
                !record.holder.is_empty() && !self.holds(record) && now < *since + self.timing.lease.max(record.lease)
            };
            return (!self.seen.as_ref().is_some_and(may_be_led)).then(|| self.mine(0));
        };
        if self.seen.as_ref().is_none_or(|(record, _)| *record != found) {
            self.seen = Some((found.clone(), now));
        }
        if self.holds(&found) {
            return Some(self.mine(found.transitions));
        }
        // Whatever this one believes, the Lease says that somebody else leads.
        self.leads_until = None;
        // Another version of us may hold it for longer than we would.
        let wait = self.timing.lease.max(found.lease);
        let is_over = self.seen.as_ref().is_some_and(|(_, since)| *since + wait <= now);
        (found.holder.is_empty() || is_over).then(|| self.mine(found.transitions.saturating_add(1)))
    }

    /// The API server took what [`Self::look`] gave at `asked`.
    pub(super) fn wrote(&mut self, asked: Instant) {
        self.leads_until = Some(asked + self.timing.renew);
    }

    pub(super) fn leads(&self, now: Instant) -> bool {
        self.leads_until.is_some_and(|until| now < until)
    }

    /// When the lead ends unless it is renewed.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }

    /// Leads no more. Gives what tells the others, if there is anything to tell.
    pub(super) fn release(&mut self, now: Instant) -> Option<Record> {
        let led = self.leads(now);
        self.leads_until = None;
        let transitions = self.seen.as_ref().map_or(0, |(record, _)| record.transitions);
        led.then(|| Record { holder: String::new(), ..self.mine(transitions) })
    }

    pub(super) fn holds(&self, record: &Record) -> bool {
        record.holder == self.identity
    }

    fn mine(&self, transitions: i32) -> Record {
        let holder = self.identity.clone();
        Record { holder, lease: self.timing.lease, transitions, stamp: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const TIMING: Timing =
        Timing { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) };

    /// The API server's Lease, with the version that makes concurrent writes fail.
    #[derive(Default)]
    struct Server {
        lease: Option<Record>,
        version: u64,
    }

    #[derive(Clone, Debug)]
    enum Move {
        /// Nobody does anything for so many milliseconds (a pause, an outage).
        Wait(u64),
        /// Reads, and decides what to write.
        Look(usize),
        /// What was decided reaches the server.
        Write(usize),
        /// The answer reaches the candidate, or is lost.
        Answer(usize, bool),
        Release(usize),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let who = 0..2_usize;
        let one = prop_oneof![
            3 => (0..6000_u64).prop_map(Move::Wait),
            4 => who.clone().prop_map(Move::Look),
            4 => who.clone().prop_map(Move::Write),
            4 => (who.clone(), prop::bool::weighted(0.8)).prop_map(|(who, arrives)| Move::Answer(who, arrives)),
            1 => who.prop_map(Move::Release),
        ];
        vec(one, 0..200)
    }

    /// A request that is under way: when it was decided, on which version, and whether the server took it.
    struct Pending {
        asked: Instant,
        version: u64,
        record: Record,
        taken: Option<bool>,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn f12_two_candidates_never_lead_at_once(moves in moves()) {
            let start = Instant::now();
            let mut now = start;
            let mut server = Server::default();
            let mut both = [Candidate::new("a".into(), TIMING), Candidate::new("b".into(), TIMING)];
            let mut pending: [Option<Pending>; 2] = [None, None];
            for step in moves {
                match step {
                    Move::Wait(millis) => now += Duration::from_millis(millis),
                    Move::Look(who) if pending[who].is_none() => {
                        let wanted = both[who].look(server.lease.clone(), now);
                        let version = server.version;
                        pending[who] = wanted.map(|record| Pending { asked: now, version, record, taken: None });
                    }
                    Move::Write(who) => if let Some(write) = &mut pending[who] && write.taken.is_none() {
                        let is_fresh = write.version == server.version;
                        write.taken = Some(is_fresh);
                        if is_fresh {
                            server.version += 1;
                            let stamp = format!("{:?}", now - start);
                            server.lease = Some(Record { stamp, ..write.record.clone() });
                        }
                    },
                    Move::Answer(who, arrives) => {
                        let Some(write) = pending[who].take() else { continue };
                        if arrives && write.taken == Some(true) {
                            both[who].wrote(write.asked);
                        }
                    }
                    Move::Release(who) => if both[who].release(now).is_some() {
                        pending[who] = None;
                        if server.lease.as_ref().is_some_and(|lease| both[who].holds(lease)) {
                            server.version += 1;
                            server.lease = server.lease.take().map(|lease| Record { holder: String::new(), ..lease });
                        }
                    },
                    Move::Look(_) => {}
                }
                prop_assert!(!(both[0].leads(now) && both[1].leads(now)), "both lead");
            }
        }
    }

    #[test]
    fn f12_a_paused_leader_stops_by_its_own_clock_before_anybody_may_take_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut a, mut b) = (Candidate::new("a".into(), TIMING), Candidate::new("b".into(), TIMING));
        let lease = a.look(None, at(0)).unwrap();
        a.wrote(at(0));
        assert_eq!(b.look(Some(lease.clone()), at(1)), None);
        assert!(a.leads(at(9)) && !a.leads(at(10)));
        assert_eq!(b.look(Some(lease.clone()), at(15)), None);
        let taken = b.look(Some(lease), at(16)).unwrap();
        assert_eq!((taken.holder.as_str(), taken.transitions), ("b", 1));
        assert_eq!(a.look(Some(taken), at(17)), None);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let now = Instant::now();
        let (mut a, mut b) = (Candidate::new("a".into(), TIMING), Candidate::new("b".into(), TIMING));
        let lease = a.look(None, now).unwrap();
        a.wrote(now);
        assert_eq!(b.look(Some(lease), now), None);
        let released = a.release(now).unwrap();
        assert!(!a.leads(now));
        assert!(b.look(Some(released), now).is_some());
    }
}
