//! Templates are other people's programs: they end, and they never take the process with them (S50).

#![allow(clippy::unwrap_used)]

use go_template::{Engine, Limits, MissingKey, Numbers, Template};
use proptest::prelude::*;
use serde_json::{Value, json};

fn small() -> Engine {
    Engine::helm().limits(Limits { output: 100_000, depth: 100, steps: 200_000 })
}

fn fails(text: &str) -> String {
    let template = match small().parse("t", text) {
        Ok(template) => template,
        Err(error) => return error.to_string(),
    };
    template.render("t", &json!({"l": [1, 2, 3]})).expect_err(text).to_string()
}

#[test]
fn s50_a_template_that_would_never_end_or_fill_the_memory_fails() {
    for (text, reason) in [
        ("{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" }}", "levels deep"),
        ("{{ define \"x\" }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}", "levels deep"),
        ("{{ define \"x\" }}{{ tpl \"{{ template `x` . }}\" . }}{{ end }}{{ include \"x\" . }}", "levels deep"),
        ("{{ range 1000000000 }}{{ end }}", "steps"),
        ("{{ range 1000000 }}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{{ end }}", "longer than"),
        ("{{ until 1000000000 }}", "steps"),
        ("{{ untilStep 0 9223372036854775807 1 }}", "steps"),
        ("{{ repeat 1000000000 \"x\" }}", "text of more than"),
        ("{{ indent 1000000000 \"x\" }}", "text of more than"),
        ("{{ printf \"%1000000000d\" 1 }}", "text of more than"),
        ("{{ printf \"%99999999999999999999d\" 1 }}", "text of more than"),
        ("{{ printf \"%.1000000000f\" 1.5 }}", "text of more than"),
        ("{{ printf \"%*d\" 1000000000 1 }}", "text of more than"),
        ("{{ $x := \"xxxxxxxxxx\" }}{{ range 100 }}{{ $x = printf \"%s%s\" $x $x }}{{ end }}", "text of more than"),
        ("{{ $x := \"xxxxxxxxxx\" }}{{ range 100 }}{{ $x = replace \"x\" $x $x }}{{ end }}", "text of more than"),
        (
            "{{ $x := \"x\" }}{{ range 100 }}{{ $x = regexReplaceAll \"x\" $x \"${0}${0}\" }}{{ end }}",
            "text of more than",
        ),
        ("{{ $x := \"x\" }}{{ range 100 }}{{ $x = join $x (list $x $x $x) }}{{ end }}", "text of more than"),
        ("{{ $x := list 1 }}{{ range 100 }}{{ $x = concat $x $x }}{{ end }}", "steps"),
        ("{{ $x := list 1 }}{{ range 90 }}{{ $x = list $x $x }}{{ end }}{{ $x }}", "more than"),
        ("{{ $x := list 1 }}{{ range 90 }}{{ $x = list $x $x }}{{ end }}{{ toYaml $x }}", "more than"),
        ("{{ $x := list 1 }}{{ range 90 }}{{ $x = list $x $x }}{{ end }}{{ toJson $x }}", "more than"),
        ("{{ $x := list 1 }}{{ range 90 }}{{ $x = list $x $x }}{{ end }}{{ deepCopy $x }}", "steps"),
        ("{{ $x := list 1 }}{{ range 10000 }}{{ $x = list $x }}{{ end }}{{ $x }}", "levels deep"),
        ("{{ $d := dict }}{{ $_ := set $d \"a\" $d }}", "contain itself"),
        ("{{ $d := dict }}{{ $_ := set $d \"a\" (list (dict \"b\" $d)) }}", "contain itself"),
        ("{{ $d := dict }}{{ $_ := merge $d (dict \"a\" $d) }}", "contain itself"),
        (
            "{{ regexMatch \"((((a{100}){100}){100}){100})\" \"a\" | print }}{{ regexFind \"((((a{100}){100}){100}){100})\" \"a\" }}",
            "regexp",
        ),
    ] {
        let error = fails(text);
        assert!(error.contains(reason), "{text}\n{error}");
    }
}

#[test]
fn s50_a_value_as_deep_as_the_steps_allow_is_taken_apart_again() {
    let text =
        "{{ $x := list 1 }}{{ $y := dict }}{{ range 400000 }}{{ $x = list $x }}{{ $y = dict \"a\" $y }}{{ end }}ok";
    let template = Template::parse("t", text).unwrap();
    assert_eq!(template.render("t", &Value::Null).unwrap(), "ok");
}

#[test]
fn s50_texts_that_are_nested_too_deeply_are_refused() {
    for (open, close) in [("{{ if 1 }}", "{{ end }}"), ("{{ with 1 }}", "{{ end }}"), ("{{ (", ") }}")] {
        assert!(fails(&(open.repeat(100_000) + &close.repeat(100_000))).len() < 200);
    }
    assert!(
        fails(&format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000))).contains("inside of each other")
    );
    assert!(fails(&format!("{{{{ if 1 }}}}{}", "{{ else if 1 }}".repeat(100_000))).contains("inside of each other"));
    let deep = format!("{{{{ {}1{} }}}}", "(list ".repeat(99), ")".repeat(99));
    assert!(small().parse("t", &deep).unwrap().render("t", &Value::Null).is_ok_and(|out| out.starts_with("[[[[")));
}

#[test]
fn errors_name_the_text_and_the_line() {
    let mut template = Engine::helm().parse("chart/a.yaml", "a\n{{ include \"b\" . }}").unwrap();
    template.add("chart/_b.tpl", "{{ define \"b\" }}\n\n{{ .x.y }}\n{{ end }}").unwrap();
    let error = template.render("chart/a.yaml", &json!({})).unwrap_err();
    assert_eq!((error.template.as_str(), error.line), ("chart/_b.tpl", 3));
    let text = "template: chart/_b.tpl:3: executing \"b\": nil pointer evaluating interface {}.y";
    assert_eq!(error.to_string(), text);
    let error = template.add("c", "x\n\n{{ nothing }}").unwrap_err();
    assert_eq!(error.to_string(), "template: c:3: function \"nothing\" not defined");
    assert_eq!(
        template.render("none", &json!({})).unwrap_err().to_string(),
        "template: none:0: template \"none\" not defined"
    );
}

#[test]
fn options_say_what_is_missing_and_what_numbers_are() {
    let render = |engine: &Engine, text: &str| engine.parse("t", text).unwrap().render("t", &json!({"n": 1_000_000}));
    let text = "{{ .a }}|{{ .n }}";
    assert_eq!(render(&Engine::new(), text).unwrap(), "<no value>|1000000");
    assert_eq!(render(&Engine::helm(), text).unwrap(), "|1000000");
    assert_eq!(render(&Engine::new(), "{{ .a.b }}").unwrap(), "<no value>");
    assert!(render(&Engine::helm(), "{{ .a.b }}").is_err());
    assert!(render(&Engine::new().missing_key(MissingKey::Error), "{{ .a }}").is_err());
    assert_eq!(render(&Engine::new().numbers(Numbers::Float), "{{ .n }} {{ kindOf .n }}").unwrap(), "1e+06 float64");
}

#[test]
fn users_add_functions_and_methods() {
    let engine = Engine::helm()
        .function("annotation", |arguments| match arguments {
            [meta, Value::String(name), default] => Ok(meta["annotations"].get(name).unwrap_or(default).clone()),
            _ => Err("wants three".into()),
        })
        .method("Has", |arguments| Ok(json!(arguments[0].as_array().is_some_and(|all| all.contains(&arguments[1])))))
        .function("upper", |arguments| Ok(json!(format!("my {}", arguments[0]))));
    let text = "{{ annotation .meta `a` 1 }} {{ annotation .meta `b` 1 | add 1 }} {{ .caps.apis.Has \"v1\" }} \
        {{ if .caps.apis.Has \"v2\" }}x{{ end }} {{ upper 1 }}";
    let data = json!({"meta": {"annotations": {"a": "x"}}, "caps": {"apis": ["v1"]}});
    assert_eq!(engine.parse("t", text).unwrap().render("t", &data).unwrap(), "x 2 true  my 1");
    let error = engine.parse("t", "{{ annotation 1 }}").unwrap().render("t", &data).unwrap_err();
    assert!(error.message.ends_with("error calling annotation: wants three"), "{error}");
}

#[test]
fn texts_that_are_parsed_together_see_each_other_and_the_last_definition_counts() {
    let mut template = Template::parse("a", "{{ define \"x\" }}1{{ end }}{{ template \"x\" }}").unwrap();
    assert_eq!(template.render("a", &Value::Null).unwrap(), "1");
    template.add("b", "{{ define \"x\" }}2{{ end }}").unwrap();
    assert_eq!(template.render("a", &Value::Null).unwrap(), "2");
    template.add("c", "{{ define \"x\" }} {{ end }}").unwrap();
    assert_eq!(template.render("a", &Value::Null).unwrap(), "2", "an empty one replaces nothing");
    assert_eq!(template.names().collect::<Vec<_>>(), ["a", "b", "c", "x"]);
}

/// Pieces that templates are made of, between spaces.
const PIECES: &str = r#"{{ }} {{- -}} x if else end range with define template block break "n" $x $ := = . .a .l .m.k
    | ( ) 1 -1 0x7f 1.5 9223372036854775807 -9223372036854775808 "%5d%s%v%q%x" "é☃" nil true `r` 'c' , /* */"#;
const FUNCTIONS: &str = "printf print index slice len eq lt and or not trunc substr indent nindent repeat replace split
    splitn splitList join dict list set get merge mergeOverwrite first last rest initial until untilStep add sub mul div
    mod max floor round int toYaml fromYaml toJson fromJson toPrettyJson b64dec regexReplaceAll regexSplit regexFind
    regexFindAll semverCompare title trimAll tpl include dig pick omit has uniq sortAlpha quote ternary default required
    html js urlquery atoi sha256sum deepCopy concat cat pluck";

fn pieces() -> impl Strategy<Value = String> {
    let blocks = ["{{ end }}", "{{ . }}", "{{ if .a }}", "{{ range $i, $e := .l }}", "{{ define \"n\" }}", " ", "\n"];
    let words: Vec<&str> = PIECES.split_whitespace().chain(blocks).collect();
    let functions: Vec<&str> = FUNCTIONS.split_whitespace().collect();
    let piece = prop_oneof![
        8 => prop::sample::select(words).prop_map(str::to_owned),
        6 => prop::sample::select(functions).prop_map(|name| format!(" {name} ")),
        1 => "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

const ARGUMENTS: &str = r#"-1 0 1 3 9223372036854775807 -9223372036854775808 1.5 1e300 "" "é☃😀" nil true .l .m .a .s
    "%*d%-08.3f%+q" "[" "a:_[b,{c:d}]" "{{.}}" ">=1.x" "a\nb" "1.2.3" "1-2-3" "0x" "é""#;

fn call() -> impl Strategy<Value = String> {
    let lists = ["(list 1 nil .m)", "(dict \"k\" .l)", "\"a: [b, {c: d}]\""];
    let arguments: Vec<&str> = ARGUMENTS.split_whitespace().chain(lists).collect();
    let name = prop::sample::select(FUNCTIONS.split_whitespace().collect::<Vec<_>>());
    let arguments = prop::collection::vec(prop::sample::select(arguments), 0..5);
    (name, arguments).prop_map(|(name, all)| format!("{{{{ {name} {} }}}}", all.join(" ")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn s50_no_text_makes_it_panic(text in pieces()) {
        let data = json!({"a": "é b", "l": [1, null, "x", [2]], "m": {"k": {"z": 1.5}}});
        if let Ok(template) = small().parse("t", &text) {
            let _ = template.render("t", &data);
        }
    }

    #[test]
    fn s50_no_arguments_make_a_function_panic(text in call()) {
        let data = json!({"a": "é b", "s": "a.b", "l": [1, null, "x", [2]], "m": {"k": {"z": 1.5}}});
        if let Ok(template) = small().parse("t", &text) {
            let _ = template.render("t", &data);
        }
    }
}
