//! One case a rule of [`Store`].

use super::*;

/// Applies steps of (path, text) edits; an empty text deletes. Returns what is in force and the last outcome.
fn after(steps: &[&[(&str, &str)]]) -> (String, Outcome) {
    let mut store = Store::new("dir");
    let mut outcome = store.apply(BTreeMap::new());
    for step in steps {
        let files = step.iter().map(|(path, text)| {
            let content = if text.is_empty() { FileContent::Missing } else { FileContent::Text((*text).to_owned()) };
            (PathBuf::from(path), content)
        });
        outcome = store.apply(files.collect());
    }
    (in_force(&store), outcome)
}

fn two(first: &str, second: &str) -> String {
    format!("{first}\n---\n{second}")
}

#[test]
fn good_documents_are_in_force_and_only_changes_are_told() {
    let (a, b) = (virtual_service("a", "v1"), virtual_service("b", "v1"));
    let (found, outcome) = after(&[&[("x.yaml", &two(&a, &b))]]);
    assert_eq!((found.as_str(), changed(&outcome).as_str()), ("a=v1 b=v1", "+a +b"));
    let (found, outcome) = after(&[&[("x.yaml", &two(&a, &b))], &[("x.yaml", &two(&virtual_service("a", "v2"), &b))]]);
    assert_eq!((found.as_str(), changed(&outcome).as_str()), ("a=v2 b=v1", "+a"));
    let (_, outcome) = after(&[&[("x.yaml", &a)], &[("x.yaml", &format!("# moved\n\n{a}"))]]);
    assert_eq!(changed(&outcome), "", "a comment changes no object");
}

#[test]
fn a_refused_object_keeps_its_last_good_version_and_others_go_on() {
    let bad = virtual_service("a", "v2").replace("hosts: [v2]", "hosts: 5");
    let (found, outcome) = after(&[
        &[("x.yaml", &two(&virtual_service("a", "v1"), &virtual_service("b", "v1")))],
        &[("x.yaml", &two(&bad, &virtual_service("b", "v2")))],
    ]);
    assert_eq!(found, "a=v1 b=v2");
    assert_eq!(
        problems(&outcome),
        ["x.yaml:6: VirtualService default/a: spec.hosts: invalid type: integer 5, expected a sequence \
             (the last good version stays in force)"]
    );
}

#[test]
fn a_refused_object_without_a_good_version_is_absent() {
    let bad = virtual_service("a", "'*'");
    let (found, outcome) = after(&[&[("x.yaml", &two(&bad, &virtual_service("b", "v1")))]]);
    assert_eq!(found, "b=v1");
    assert!(problems(&outcome).iter().all(|line| line.ends_with("(not in force)")), "{:?}", problems(&outcome));
}

#[test]
fn what_a_broken_document_may_be_stays_in_force() {
    let good = two(&virtual_service("a", "v1"), &virtual_service("b", "v1"));
    for broken in [
        "kind: [",
        "apiVersion: v1\nkind: Nonsense\nmetadata: {name: a}\n",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n",
        "just text",
    ] {
        let (found, outcome) = after(&[
            &[("x.yaml", &good), ("y.yaml", &virtual_service("c", "v1"))],
            &[("x.yaml", &two(broken, &virtual_service("b", "v2")))],
        ]);
        assert_eq!(found, "a=v1 b=v2 c=v1", "{broken}");
        assert_eq!(outcome.problems.len(), 1);
        assert_eq!(outcome.problems[0].effect, Effect::LastGood);
    }
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_objects() {
    let mut store = Store::new("dir");
    store.apply(texts(&[("x.yaml", &virtual_service("a", "v1")), ("y.yaml", &virtual_service("b", "v1"))]));
    let unreadable = FileContent::Unreadable("not UTF-8 text".into());
    let outcome = store.apply(BTreeMap::from([(PathBuf::from("x.yaml"), unreadable)]));
    assert_eq!(in_force(&store), "a=v1 b=v1");
    assert_eq!(problems(&outcome), ["x.yaml: file x.yaml: not UTF-8 text (the last good version stays in force)"]);
}

#[test]
fn deletes_are_real_while_something_remains() {
    let (a, b) = (virtual_service("a", "v1"), virtual_service("b", "v1"));
    let (found, outcome) = after(&[&[("x.yaml", &a), ("y.yaml", &b)], &[("x.yaml", "")]]);
    assert_eq!((found.as_str(), changed(&outcome).as_str()), ("b=v1", "-a"));
    let (found, outcome) = after(&[&[("x.yaml", &two(&a, &b))], &[("x.yaml", &b)]]);
    assert_eq!((found.as_str(), changed(&outcome).as_str()), ("b=v1", "-a"));
    let (found, _) = after(&[&[("x.yaml", &a)], &[("x.yaml", ""), ("y.yaml", &a)]]);
    assert_eq!(found, "a=v1", "a renamed file");
}

#[test]
fn a_deleted_broken_file_deletes_its_objects() {
    let (found, _) = after(&[
        &[("x.yaml", &virtual_service("a", "v1")), ("y.yaml", &virtual_service("b", "v1"))],
        &[("x.yaml", "[")],
        &[("x.yaml", "")],
    ]);
    assert_eq!(found, "b=v1");
}

#[test]
fn an_emptied_folder_keeps_everything_until_it_has_objects_again() {
    let a = virtual_service("a", "v1");
    for emptied in ["", "# nothing\n", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"] {
        let (found, outcome) = after(&[&[("x.yaml", &a)], &[("x.yaml", emptied)]]);
        assert_eq!((found.as_str(), changed(&outcome).as_str()), ("a=v1", ""), "{emptied:?}");
        let expected = "dir: folder dir: has no objects any more; all that were in force stay (the last good version stays in force)";
        assert_eq!(problems(&outcome), [expected]);
    }
    let (found, outcome) = after(&[&[("x.yaml", &a)], &[("x.yaml", "")], &[("y.yaml", &virtual_service("b", "v1"))]]);
    assert_eq!((found.as_str(), changed(&outcome).as_str()), ("b=v1", "-a +b"));
    assert_eq!(problems(&outcome), [""; 0]);
}

#[test]
fn a_rename_of_the_last_object_to_a_bad_one_empties_nothing() {
    let (found, outcome) =
        after(&[&[("x.yaml", &virtual_service("a", "v1"))], &[("x.yaml", &virtual_service("b", "'*'"))]]);
    assert_eq!(found, "a=v1");
    assert!(outcome.problems.iter().any(|located| located.effect == Effect::LastGood));
}

#[test]
fn of_two_files_with_one_object_the_first_in_path_order_wins() {
    let files: &[(&str, &str)] = &[("b.yaml", &virtual_service("a", "v2")), ("a.yaml", &virtual_service("a", "v1"))];
    let (found, outcome) = after(&[files]);
    assert_eq!(found, "a=v1");
    assert_eq!(
        problems(&outcome),
        ["b.yaml:1: VirtualService default/a: already defined in a.yaml:1, which stays in force"]
    );
    let (found, outcome) = after(&[files, &[("a.yaml", "")]]);
    assert_eq!((found.as_str(), problems(&outcome).len()), ("a=v2", 0), "the second takes over");
    let text = two(&virtual_service("a", "v1"), &virtual_service("a", "v2"));
    let (found, outcome) = after(&[&[("a.yaml", &text)]]);
    assert_eq!(found, "a=v1");
    assert!(problems(&outcome)[0].starts_with("a.yaml:13:"), "{:?}", problems(&outcome));
}

#[test]
fn remarks_leave_the_object_in_force() {
    let text = virtual_service("a", "v1").replace("  hosts", "  nonsense: 1\n  hosts");
    let (found, outcome) = after(&[&[("x.yaml", &text)]]);
    assert_eq!(found, "a=v1");
    assert_eq!(problems(&outcome), ["x.yaml:6: VirtualService default/a: spec.nonsense: unknown field, ignored"]);
}

#[test]
fn kinds_that_are_not_read_are_counted_or_named() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: b}\n---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: c}\n";
    let (_, outcome) = after(&[&[("x.yaml", text)]]);
    assert_eq!(outcome.skipped, BTreeMap::from([("v1 Secret".into(), 2)]));
    assert_eq!(
        problems(&outcome),
        ["x.yaml:9: Telemetry default/c: not translated by this version of navarch, has no effect"]
    );
}

#[test]
fn problems_inside_lists_have_their_own_lines() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec:\n    ports: 1\n";
    let (found, outcome) = after(&[&[("x.yaml", text)]]);
    assert_eq!(found, "a");
    assert!(problems(&outcome)[0].starts_with("x.yaml:11: Service default/b: items[1].spec.ports:"));
}
