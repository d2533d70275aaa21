//! Real directories: loading, and what an editor, a mount and a careless user do to a watched one.

use super::super::{Folder, LoadError};
use super::*;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// More than any wait here needs, polls included.
const LIMIT: Duration = Duration::from_secs(20);

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(dir.path(), path, text);
    }
    dir
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn only_yaml_and_json_files_are_read_at_any_depth() {
    let dir = directory(&[
        ("a.yaml", &virtual_service("a", "v1")),
        ("sub/deep/b.yml", &virtual_service("b", "v1")),
        ("c.json", "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"c\"}}"),
        ("README.md", "["),
        (".hidden.yaml", "["),
        (".git/x.yaml", "["),
        ("a.yaml~", "["),
        ("#a.yaml#", "["),
        (".a.yaml.swp", "["),
    ]);
    let (folder, outcome) = Folder::load(dir.path()).unwrap();
    assert_eq!(problems(&outcome), [""; 0]);
    assert_eq!(in_force(folder.store()), "c a=v1 b=v1");
}

#[test]
fn a_folder_without_objects_is_an_error_that_says_so() {
    let message = |dir: &Path| Folder::load(dir).map(|_| ()).unwrap_err().to_string();
    let dir = directory(&[]);
    assert!(message(dir.path()).ends_with("has no .yaml, .yml or .json file"));
    assert!(message(&dir.path().join("none")).ends_with("does not exist"));
    write(dir.path(), "a.yaml", "# nothing\n");
    assert!(message(dir.path()).ends_with("has no Kubernetes or Istio objects that navarch reads"));
    assert!(matches!(Folder::load(dir.path().join("a.yaml")), Err(LoadError::NotAFolder(_))));
}

#[test]
fn a_folder_of_mistakes_alone_loads_with_its_problems() {
    let dir = directory(&[("a.yaml", "[")]);
    let (_, outcome) = Folder::load(dir.path()).unwrap();
    assert_eq!((outcome.changes.len(), outcome.problems.len()), (0, 1));
}

/// A watched directory, and what became of it so far.
struct Watched {
    outcomes: mpsc::Receiver<Outcome>,
    objects: BTreeMap<String, crds::Object>,
    problems: Vec<String>,
}

impl Watched {
    /// Loads and watches `dir`. The task ends when this is dropped.
    fn new(dir: &Path) -> Self {
        let (folder, outcome) = Folder::load(dir).unwrap();
        let (sender, outcomes) = mpsc::channel(1);
        tokio::spawn(folder.watch(sender));
        let mut watched = Self { outcomes, objects: BTreeMap::new(), problems: Vec::new() };
        watched.take(outcome);
        watched
    }

    fn take(&mut self, outcome: Outcome) {
        self.problems = problems(&outcome);
        for (key, object) in outcome.changes {
            match object {
                Some(object) => self.objects.insert(key.name.to_string(), object),
                None => self.objects.remove(&*key.name),
            };
        }
    }

    fn in_force(&self) -> String {
        let version = |(name, object): (&String, &crds::Object)| match &object.spec {
            crds::Spec::VirtualService(service) => format!("{name}={}", service.hosts[0]),
            _ => name.clone(),
        };
        self.objects.iter().map(version).collect::<Vec<_>>().join(" ")
    }

    /// Waits until `expected` is in force with so many problems.
    async fn becomes(&mut self, expected: &str, problems: usize) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while self.in_force() != expected || self.problems.len() != problems {
            match tokio::time::timeout_at(deadline, self.outcomes.recv()).await {
                Ok(Some(outcome)) => self.take(outcome),
                _ => panic!(
                    "expected {expected:?} and {problems} problems, found {:?} {:?}",
                    self.in_force(),
                    self.problems
                ),
            }
        }
    }
}

#[tokio::test]
async fn edits_of_all_kinds_arrive() {
    let dir = directory(&[("a.yaml", &virtual_service("a", "v1"))]);
    let dir = dir.path();
    let mut watched = Watched::new(dir);
    watched.becomes("a=v1", 0).await;
    write(dir, "a.yaml", &virtual_service("a", "v2"));
    watched.becomes("a=v2", 0).await;
    // As editors save: a new file renamed over the old one.
    write(dir, "a.yaml.tmp", &virtual_service("a", "v3"));
    fs::rename(dir.join("a.yaml.tmp"), dir.join("a.yaml")).unwrap();
    watched.becomes("a=v3", 0).await;
    write(dir, "new/b.yaml", &virtual_service("b", "v1"));
    watched.becomes("a=v3 b=v1", 0).await;
    write(dir, "a.yaml", "kind: [");
    watched.becomes("a=v3 b=v1", 1).await;
    write(dir, "a.yaml", &virtual_service("a", "v4"));
    watched.becomes("a=v4 b=v1", 0).await;
    fs::rename(dir.join("a.yaml"), dir.join("z.yaml")).unwrap();
    write(dir, "z.yaml", &virtual_service("a", "v5"));
    watched.becomes("a=v5 b=v1", 0).await;
    fs::remove_file(dir.join("z.yaml")).unwrap();
    watched.becomes("b=v1", 0).await;
}

#[tokio::test]
async fn a_vanished_folder_keeps_all_and_comes_back() {
    let parent = directory(&[("mesh/a.yaml", &virtual_service("a", "v1"))]);
    let dir = parent.path().join("mesh");
    let mut watched = Watched::new(&dir);
    fs::remove_dir_all(&dir).unwrap();
    watched.becomes("a=v1", 1).await;
    write(&dir, "a.yaml", &virtual_service("a", "v2"));
    watched.becomes("a=v2", 0).await;
    write(&dir, "a.yaml", &virtual_service("a", "v3"));
    watched.becomes("a=v3", 0).await;
}

/// A mounted ConfigMap: links into a folder that is swapped by renaming the link `..data`.
#[tokio::test]
async fn a_swap_of_a_mounted_config_map_arrives() {
    let dir = directory(&[("..1/a.yaml", &virtual_service("a", "v1")), ("..2/a.yaml", &virtual_service("a", "v2"))]);
    let dir = dir.path();
    std::os::unix::fs::symlink("..1", dir.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
    let mut watched = Watched::new(dir);
    watched.becomes("a=v1", 0).await;
    std::os::unix::fs::symlink("..2", dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    watched.becomes("a=v2", 0).await;
}

/// A file that is written in pieces is looked at when it is complete.
#[tokio::test]
async fn a_half_written_file_is_not_believed() {
    use std::io::Write as _;
    let both = format!("{}---\n{}", virtual_service("a", "v2"), virtual_service("b", "v2"));
    let dir = directory(&[("x.yaml", &both.replace("v2", "v1"))]);
    let mut watched = Watched::new(dir.path());
    watched.becomes("a=v1 b=v1", 0).await;
    let mut file = fs::File::create(dir.path().join("x.yaml")).unwrap();
    for piece in both.as_bytes().chunks(50) {
        file.write_all(piece).unwrap();
        tokio::task::yield_now().await;
    }
    drop(file);
    let outcome = tokio::time::timeout(LIMIT, watched.outcomes.recv()).await.unwrap().unwrap();
    assert_eq!(changed(&outcome), "+a +b", "one change, no removal in between");
    watched.take(outcome);
    assert_eq!(watched.in_force(), "a=v2 b=v2");
}

#[tokio::test]
async fn the_watch_ends_with_its_receiver() {
    let dir = directory(&[("a.yaml", &virtual_service("a", "v1"))]);
    let (folder, _) = Folder::load(dir.path()).unwrap();
    let (sender, outcomes) = mpsc::channel(1);
    let task = tokio::spawn(folder.watch(sender));
    drop(outcomes);
    tokio::time::timeout(LIMIT, task).await.unwrap().unwrap().unwrap();
}
