//! The live cases of `cargo xtask e2e traffic`, all of them: together they take seconds.
// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use e2e::traffic::{Verdict, folder, groups, run};

#[test]
fn live_cases_come_out_as_their_files_say() {
    let groups = groups(&folder(), None).unwrap();
    let verdicts = run(groups, |_| ()).unwrap();
    let failed: Vec<&Verdict> = verdicts.iter().filter(|it| !it.wrong.is_empty()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(verdicts.len() > 350, "{} cases are too few", verdicts.len());
}

/// A case that cannot come true fails: the judge is awake.
#[test]
fn what_is_not_so_is_told() {
    let mut groups = groups(&folder(), Some("virtual-service/match: a path exactly")).unwrap();
    groups[0].cases[0].expect.pod = Some("nobody".to_owned());
    groups[0].cases[1].expect.status = Some(418);
    let verdicts = run(groups, |_| ()).unwrap();
    let failed: Vec<String> = verdicts.iter().flat_map(|it| it.wrong.clone()).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed.iter().any(|it| it.contains("pod should be \"nobody\"")), "{failed:?}");
    assert!(failed.iter().any(|it| it.contains("status should be 418, is 200")), "{failed:?}");
}
