use super::*;
use serde_json::json;

#[test]
fn scalars_mean_what_kubectl_takes_them_for() {
    for (text, expected) in [
        ("yes", json!(true)),
        ("on", json!(true)),
        ("y", json!(true)),
        ("Off", json!(false)),
        ("N", json!(false)),
        ("'yes'", json!("yes")),
        ("TRUE", json!(true)),
        ("tRue", json!("tRue")),
        ("~", json!([null])),
        ("10", json!(10)),
        ("-3", json!(-3)),
        ("+3", json!(3)),
        ("010", json!(8)),
        ("0o10", json!(8)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("1_000", json!(1000)),
        ("08", json!(8.0)),
        ("1.5", json!(1.5)),
        (".5", json!(0.5)),
        ("1e3", json!(1000.0)),
        ("1.2.3", json!("1.2.3")),
        ("10s", json!("10s")),
        ("12:30", json!("12:30")),
        ("2024-01-01", json!("2024-01-01")),
        ("!!str 10", json!("10")),
        ("\"10\"", json!("10")),
        ("|\n  a\n  b\n", json!("a\nb\n")),
    ] {
        let found = value(&format!("- {text}")).unwrap();
        let expected = if expected.is_array() { expected } else { json!([expected]) };
        assert_eq!(found, expected, "{text}");
    }
    assert!(value("- .inf").unwrap_err().message.contains("no JSON form"));
}

#[test]
fn keys_are_text() {
    assert_eq!(value("80: a\ntrue: b\n1.5: c").unwrap(), json!({"80": "a", "true": "b", "1.5": "c"}));
    assert!(value("? [a]\n: b").unwrap_err().message.contains("a key must be text"));
}

#[test]
fn anchors_and_merge_keys_are_expanded() {
    let text = "base: &b {a: 1, b: 2}\nuse:\n  <<: *b\n  b: 3\nsame: *b\nboth:\n  <<: [*b, {c: 4, a: 5}]\n";
    let expected = json!({
        "base": {"a": 1, "b": 2}, "use": {"b": 3, "a": 1}, "same": {"a": 1, "b": 2}, "both": {"a": 1, "b": 2, "c": 4}
    });
    assert_eq!(value(text).unwrap(), expected);
    assert!(value("a: 1\n<<: 2").unwrap_err().message.contains("<< takes a mapping"));
}

#[test]
fn a_duplicate_key_is_an_error_with_its_line() {
    let error = value("a:\n  b: 1\n  c: 2\n  b: 3\n").unwrap_err();
    assert_eq!((error.line, error.message.as_str()), (4, "key \"b\" is already set in this mapping"));
}

#[test]
fn a_broken_document_takes_no_other_with_it() {
    let documents = documents("a: 1\n---\nb: [1\n---\n# only a comment\n--- # named\nc: 3\n");
    assert_eq!(documents.len(), 3);
    assert_eq!(documents[0].content.as_ref().unwrap().value, json!({"a": 1}));
    assert!(documents[1].content.as_ref().unwrap_err().message.starts_with("not YAML"));
    assert!((3..=4).contains(&documents[1].content.as_ref().unwrap_err().line));
    assert_eq!(documents[2].content.as_ref().unwrap().value, json!({"c": 3}));
    assert_eq!(documents[2].line, 7);
}

#[test]
fn separators_of_all_forms_split() {
    for text in
        ["a: 1\n---\nb: 2", "---\na: 1\n--- \nb: 2\n---\n", "a: 1\r\n---\r\nb: 2\r\n", "\u{feff}a: 1\n...\n---\nb: 2"]
    {
        let values: Vec<_> = documents(text).into_iter().map(|document| document.content.unwrap().value).collect();
        assert_eq!(values, [json!({"a": 1}), json!({"b": 2})], "{text:?}");
    }
    assert_eq!(documents("").len() + documents("# nothing\n---\n---\n").len(), 0);
}

#[test]
fn json_is_yaml() {
    assert_eq!(value("{\"a\": [1, true, null, \"x\"]}").unwrap(), json!({"a": [1, true, null, "x"]}));
}

#[test]
fn lines_are_found_by_path() {
    let text = "kind: A\nmetadata:\n  labels:\n    app.kubernetes.io/name: x\n    app: y\nspec:\n  http:\n  - route:\n    - a: 1\n  - match: []\n";
    let documents = documents(&format!("x: 1\n---\n{text}"));
    let content = documents[1].content.as_ref().unwrap();
    for (path, line) in [
        ("", 3),
        ("kind", 3),
        ("metadata.labels.app.kubernetes.io/name", 6),
        ("metadata.labels.app", 7),
        ("spec.http[0].route[0].a", 11),
        ("spec.http[1].match", 12),
        ("spec.http[1].nothing", 12),
        ("spec.http[7]", 9),
        ("nothing", 3),
    ] {
        assert_eq!(content.line_of(path), line, "{path}");
    }
}

#[test]
fn expansion_and_depth_are_bounded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let alias = format!("*a{}", i - 1);
        text += &format!("a{i}: &a{i} [{}]\n", [alias.as_str(); 10].join(", "));
    }
    assert!(value(&text).unwrap_err().message.contains("after expanding aliases"));
    assert!(value(&"[".repeat(5000)).is_err());
    assert!(value(&format!("{}{}", "[".repeat(200), "]".repeat(200))).unwrap_err().message.contains("nest deeper"));
}

#[test]
fn any_prefix_of_a_document_ends_in_a_value_or_an_error() {
    let text =
        "apiVersion: v1 # x\nkind: &k 'Service'\nspec: {a: [1, \"b\\n\"], c: *k}\ntext: |2-\n   a\n  b\n? x\n: >\n y\n";
    for end in 0..text.len() {
        let _ = documents(&text[..end]);
        let _ = documents(&text[end..]);
    }
}
