//! What came of each step, told as it happens.

use anyhow::Result;
use std::time::Duration;

/// Counts, in the order of the steps.
#[derive(Debug, Default)]
pub struct Report {
    outcomes: Vec<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// By the caller's own wish.
    LeftOut,
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
impl Report {
    pub(super) fn step(&mut self, name: &str, took: Duration, outcome: Result<String>) {
        let seconds = took.as_secs_f32();
        self.outcomes.push(match outcome {
            Ok(figures) => {
                println!("ok      {seconds:6.1} s  {name}");
                figures.lines().for_each(|line| println!("                  {line}"));
                Outcome::Passed
            }
            Err(why) => {
                println!("FAILED  {seconds:6.1} s  {name}");
                format!("{why:#}").lines().for_each(|line| println!("                  {line}"));
                Outcome::Failed
            }
        });
    }

    /// A failure of its own: what would have been shown is not.
    pub(super) fn not_run(&mut self, name: &str) {
        println!("FAILED          {name}\n                  not run: it needs what failed before");
        self.outcomes.push(Outcome::Failed);
    }

    pub(super) fn left_out(&mut self, name: &str) {
        println!("skipped         {name}\n                  --only leaves it out");
        self.outcomes.push(Outcome::LeftOut);
    }

    pub(super) fn foundation_failed(&self, steps: usize) -> bool {
        self.outcomes.iter().take(steps).any(|it| *it == Outcome::Failed)
    }

    pub fn failed(&self) -> usize {
        self.count(Outcome::Failed)
    }

    /// The closing line that every runner of tests prints.
    pub fn totals(&self) -> String {
        let (passed, failed, skipped) =
            (self.count(Outcome::Passed), self.count(Outcome::Failed), self.count(Outcome::LeftOut));
        format!(
            "test result: {}. {passed} passed; {failed} failed; {skipped} ignored; 0 measured",
            match failed {
                0 => "ok",
                _ => "FAILED",
            }
        )
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.outcomes.iter().filter(|it| **it == outcome).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_run_counts_as_failed() {
        let mut report = Report::default();
        report.step("a", Duration::ZERO, Ok("1 of 1".to_owned()));
        report.step("b", Duration::ZERO, Err(anyhow::anyhow!("no")));
        assert!(!report.foundation_failed(1) && report.foundation_failed(2));
        report.not_run("c");
        report.left_out("d");
        assert_eq!(report.totals(), "test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured");
    }
}
