//! How a proxy ends, as a state machine: what happened and the time go in, what is to be done comes out. Pure.

use std::time::Duration;

use crate::environment::Drain;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Terminate,
    /// `POST /drain`.
    Drain,
    /// `POST /quitquitquit`.
    Quit,
    /// Connections Envoy still has, or that it could not say.
    Connections(Option<u64>),
    /// The time asked for has come.
    Time,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Not ready from now on; Envoy is told to drain its listeners.
    DrainListeners,
    /// Ask Envoy how many connections it has.
    AskConnections,
    /// End Envoy, and with it the agent.
    End,
}

/// Times are since any moment that stays the same.
#[derive(Debug)]
pub struct Machine {
    drain: Drain,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// By `/drain`: a native sidecar whose application may still be at work.
    Drained,
    Waiting {
        until: Duration,
    },
    Counting {
        next: Duration,
        failures: u32,
    },
    Ending,
}

/// After that many answers missing in a row, Envoy is taken for dead.
const FAILURES_MAX: u32 = 5;
/// Between two questions for connections.
const INTERVAL: Duration = Duration::from_secs(1);

impl Machine {
    /// A proxy in service.
    #[must_use]
    pub fn new(drain: Drain) -> Self {
        Self { drain, phase: Phase::Running }
    }

    /// When [`Event::Time`] is wanted.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Counting { next, .. } => Some(next),
            Phase::Running | Phase::Drained | Phase::Ending => None,
        }
    }

    /// One step.
    pub fn step(&mut self, event: Event, now: Duration) -> Option<Action> {
        match (event, self.phase) {
            (_, Phase::Ending) => None,
            (Event::Quit, _) => self.end(),
            (Event::Drain, Phase::Running) => {
                self.phase = Phase::Drained;
                Some(Action::DrainListeners)
            }
            (Event::Terminate, Phase::Running) => {
                self.phase = match self.drain {
                    Drain::After(time) => Phase::Waiting { until: now + time },
                    Drain::WhenIdle { minimum } => Phase::Counting { next: now + minimum, failures: 0 },
                };
                Some(Action::DrainListeners)
            }
            // Kubernetes sends it when the application's containers are gone; the listeners are drained since long.
            (Event::Terminate, Phase::Drained) => self.end(),
            (Event::Time, Phase::Waiting { until }) if now >= until => self.end(),
            (Event::Time, Phase::Counting { next, failures }) if now >= next => {
                self.phase = Phase::Counting { next: now + INTERVAL, failures };
                Some(Action::AskConnections)
            }
            (Event::Connections(Some(0)), Phase::Counting { .. }) => self.end(),
            (Event::Connections(Some(_)), Phase::Counting { next, .. }) => {
                self.phase = Phase::Counting { next, failures: 0 };
                None
            }
            (Event::Connections(None), Phase::Counting { next, failures }) => {
                if failures + 1 >= FAILURES_MAX {
                    return self.end();
                }
                self.phase = Phase::Counting { next, failures: failures + 1 };
                None
            }
            (Event::Terminate | Event::Drain | Event::Time | Event::Connections(_), _) => None,
        }
    }

    fn end(&mut self) -> Option<Action> {
        self.phase = Phase::Ending;
        Some(Action::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use super::{Action as A, Event as E};

    fn play(drain: Drain, story: &[(u64, Event, Option<Action>)]) {
        let mut machine = Machine::new(drain);
        for (index, (second, event, expected)) in story.iter().enumerate() {
            let action = machine.step(*event, Duration::from_secs(*second));
            assert_eq!(action, *expected, "step {index}: {event:?} at {second} s in {machine:?}");
        }
    }

    const AFTER: Drain = Drain::After(Duration::from_secs(5));
    const WHEN_IDLE: Drain = Drain::WhenIdle { minimum: Duration::from_secs(5) };

    #[test]
    fn after_the_drain_time_envoy_ends() {
        play(
            AFTER,
            &[
                (0, E::Time, None),
                (10, E::Terminate, Some(A::DrainListeners)),
                (11, E::Terminate, None),
                (11, E::Drain, None),
                (14, E::Time, None),
                (15, E::Time, Some(A::End)),
                (16, E::Quit, None),
            ],
        );
    }

    #[test]
    fn a_native_sidecar_that_was_drained_ends_at_once() {
        play(
            AFTER,
            &[
                (0, E::Drain, Some(A::DrainListeners)),
                (1, E::Drain, None),
                (99, E::Time, None),
                (100, E::Terminate, Some(A::End)),
            ],
        );
    }

    #[test]
    fn an_idle_envoy_ends_after_the_minimum_and_a_busy_one_goes_on() {
        play(
            WHEN_IDLE,
            &[
                (0, E::Terminate, Some(A::DrainListeners)),
                (4, E::Time, None),
                (5, E::Time, Some(A::AskConnections)),
                (5, E::Connections(Some(3)), None),
                (5, E::Time, None),
                (6, E::Time, Some(A::AskConnections)),
                (6, E::Connections(Some(0)), Some(A::End)),
            ],
        );
    }

    #[test]
    fn an_envoy_that_does_not_answer_is_not_waited_for() {
        let mut machine = Machine::new(WHEN_IDLE);
        machine.step(E::Terminate, Duration::ZERO);
        let mut answers = Vec::new();
        for second in 5..10 {
            assert_eq!(machine.step(E::Time, Duration::from_secs(second)), Some(A::AskConnections));
            answers.push(machine.step(E::Connections(None), Duration::from_secs(second)));
        }
        assert_eq!(answers, [None, None, None, None, Some(A::End)]);
    }

    #[test]
    fn quit_ends_from_anywhere() {
        play(AFTER, &[(0, E::Quit, Some(A::End))]);
        play(AFTER, &[(0, E::Terminate, Some(A::DrainListeners)), (1, E::Quit, Some(A::End))]);
        play(WHEN_IDLE, &[(0, E::Drain, Some(A::DrainListeners)), (1, E::Quit, Some(A::End))]);
    }
}
