//! Where in the folder a problem was written: file and line of the object's field.

use crds::yaml::Content;
use crds::{ObjectKey, Problem, Severity};
use serde::Serialize;
use source::files::Located;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Deeper folders are somebody's archive, or a loop of links.
const DEPTH_MAX: usize = 16;

/// A problem as people read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Line {
    pub file: PathBuf,
    /// 0: the file, or nowhere in particular.
    pub line: usize,
    pub severity: &'static str,
    pub object: String,
    pub field: String,
    pub reason: String,
}

/// The source's own problems, and those that show only when objects meet.
pub fn lines(folder: &Path, written: &[Located], found: &[Problem]) -> Vec<Line> {
    let mut lines: Vec<Line> = written.iter().map(|it| Line::new(it.file.clone(), it.line, &it.problem)).collect();
    if !found.is_empty() {
        let mut places = Places::new();
        collect(folder, DEPTH_MAX, &mut places);
        lines.extend(found.iter().map(|problem| {
            let place = places.get(&problem.object);
            let (file, line) = place.map_or((PathBuf::new(), 0), |(file, at, content)| {
                let path = match (at.as_str(), problem.field.as_str()) {
                    ("", field) => field.to_owned(),
                    (at, field) => format!("{at}.{field}"),
                };
                (file.clone(), content.line_of(path.trim_end_matches('.')))
            });
            Line::new(file, line, problem)
        }));
    }
    lines.sort();
    lines.dedup();
    lines
}

type Places = BTreeMap<ObjectKey, (PathBuf, String, Rc<Content>)>;

fn collect(folder: &Path, depth: usize, places: &mut Places) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|it| it.ok().map(|it| it.path())).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, places);
        }
        if !path.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for content in crds::yaml::documents(&text).into_iter().filter_map(|it| it.content.ok()).map(Rc::new) {
            for decoded in crds::decode::objects(content.value.clone()) {
                // The first one is in force, as in the source.
                places.entry(decoded.key).or_insert_with(|| (path.clone(), decoded.at, content.clone()));
            }
        }
    }
}

impl Line {
    fn new(file: PathBuf, line: usize, problem: &Problem) -> Self {
        Self {
            file,
            line,
            severity: match problem.severity() {
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            object: problem.object.to_string(),
            field: problem.field.clone(),
            reason: problem.reason.to_string(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:{}: ", self.file.display(), self.line)?;
        }
        write!(f, "{}: {}: ", self.severity, self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::{Kind, Reason};

    #[test]
    fn problems_of_objects_that_meet_have_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: b}\nspec:\n  \
                    hosts: [a]\n  http:\n  - route:\n    - destination: {host: a}\n";
        std::fs::write(folder.path().join("a.yaml"), format!("---\n{text}")).unwrap();
        let key = ObjectKey::new(Kind::VirtualService, "b", "a");
        let problem = Problem::new(&key, "spec.http[0].route[0].destination.host", Reason::UnknownHost("a".into()));
        let lines = lines(folder.path(), &[], &[problem]);
        let said = lines[0].to_string();
        assert!(
            said.contains("a.yaml:9: warning: VirtualService b/a: spec.http[0].route[0].destination.host: "),
            "{said}"
        );
    }
}
