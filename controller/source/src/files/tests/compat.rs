//! Istio's own sample, read as it is. The data lies outside the repository; without it the test says so.

use super::super::Folder;
use super::*;
use crds::Severity;
use std::path::Path;

fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/istio/bookinfo");
    let dir = std::env::var_os("NAVARCH_COMPAT_DATA").map_or(beside, PathBuf::from);
    dir.is_dir().then_some(dir)
}

/// Files of one directory are alternatives to each other, so each is read alone.
fn each_file(dir: &Path, check: &mut impl FnMut(&Path, &Outcome)) -> usize {
    let mut count = 0;
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            count += each_file(&path, check);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let outcome = Store::new(dir).apply(BTreeMap::from([(path.clone(), FileContent::Text(text))]));
            check(&path, &outcome);
            count += 1;
        }
    }
    count
}

#[test]
fn every_file_of_bookinfo_is_accepted() {
    let Some(dir) = data() else {
        eprintln!("skipped: no data; set NAVARCH_COMPAT_DATA to a folder of Istio's samples");
        return;
    };
    let (mut objects, mut skipped) = (0, 0);
    let count = each_file(&dir, &mut |path, outcome| {
        let errors: Vec<_> =
            outcome.problems.iter().filter(|located| located.problem.severity() == Severity::Error).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        objects += outcome.changes.len();
        skipped += outcome.skipped.values().sum::<usize>();
    });
    assert!(count > 0 && objects > 0, "{count} files, {objects} objects");
    eprintln!("{count} files: {objects} objects, {skipped} of kinds that are not read");
    let (_, outcome) = Folder::load(&dir).unwrap();
    assert!(!outcome.changes.is_empty());
}
