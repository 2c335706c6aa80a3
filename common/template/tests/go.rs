//! What Go's `text/template` makes of templates like those in ClusterImages, written down from its documentation.

use std::collections::BTreeMap;

use gantry_template::{MAX_RENDERED_LEN, render};
use proptest::prelude::*;

fn values() -> BTreeMap<String, String> {
    [
        ("PodCIDR", "100.64.0.0/10"),
        ("Masters", "10.0.0.2,10.0.0.3"),
        ("Empty", ""),
        ("Secret", "c2VjcmV0"),
        ("Mark", "<a & \"b\">"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

#[test]
fn templates_give_what_go_gives() {
    for (text, expected) in [
        ("podSubnet: {{ .PodCIDR }}\n", "podSubnet: 100.64.0.0/10\n"),
        ("{{.Missing}}", "<no value>"),
        ("{{if .Missing}}a{{else}}b{{end}}", "b"),
        ("{{if .Empty}}a{{else if .PodCIDR}}b{{end}}", "b"),
        ("{{or .Missing .Empty \"d\"}}", "d"),
        ("{{and .PodCIDR .Masters}}", "10.0.0.2,10.0.0.3"),
        ("{{not .Empty}}", "true"),
        ("{{if eq .PodCIDR \"100.64.0.0/10\"}}same{{end}}", "same"),
        ("{{if ne .PodCIDR \"x\"}}other{{end}}", "other"),
        ("{{len .Masters}}", "17"),
        ("{{printf \"%s-%d\" .Empty 7}}", "-7"),
        ("{{print 1 2 \"x\"}}", "1 2x"),
        ("{{.PodCIDR | printf \"%q\"}}", "\"100.64.0.0/10\""),
        ("{{index . \"PodCIDR\"}}", "100.64.0.0/10"),
        ("{{slice .Masters 0 8}}", "10.0.0.2"),
        ("{{with .PodCIDR}}[{{.}}]{{end}}", "[100.64.0.0/10]"),
        ("{{with .Empty}}a{{else}}b{{end}}", "b"),
        ("{{with $x := .PodCIDR}}{{$x}}{{$.Empty}}{{end}}", "100.64.0.0/10"),
        ("a \n{{- .Empty -}}\n b", "ab"),
        ("{{/* nothing */}}x", "x"),
        (
            "{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .PodCIDR}}",
            "<100.64.0.0/10>",
        ),
        ("{{html .Mark}}", "&lt;a &amp; &#34;b&#34;&gt;"),
        ("{{.Mark}}", "<a & \"b\">"),
        ("{{urlquery .Mark}}", "%3Ca+%26+%22b%22%3E"),
        (
            "{{range $name, $value := .}}{{$name}} {{end}}",
            "Empty Mark Masters PodCIDR Secret ",
        ),
        ("{{.PodCIDR | b64enc}}", "MTAwLjY0LjAuMC8xMA=="),
        ("{{b64dec .Secret}}", "secret"),
        ("{{`raw }}`}}", "raw }}"),
    ] {
        assert_eq!(render(text, &values()).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    let mistake = |text: &str| render(text, &values()).unwrap_err().to_string();
    assert!(mistake("x\n{{nosuch .PodCIDR}}").contains("nosuch"));
    assert!(mistake("{{if .PodCIDR}}half").contains("1:1: {{if}} has no {{end}}"));
    assert!(mistake("{{b64dec .PodCIDR}}").contains("b64dec"));
    assert!(mistake("{{b64enc}}").contains("one argument"));
    assert!(mistake("x\n{{ .PodCIDR | }}").starts_with("2:"));
}

#[test]
fn a_result_has_a_bound_and_so_has_recursion() {
    let mut values = values();
    values.insert("Long".into(), "x".repeat(MAX_RENDERED_LEN / 8));
    let error = render(&"{{.Long}}".repeat(9), &values).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    let endless = "{{define \"t\"}}{{template \"t\" .}}{{end}}{{template \"t\" .}}";
    assert!(render(endless, &values).is_err());
}

proptest! {
    #[test]
    fn no_text_breaks_it(text in "([a-z .{}()|\"`'/*-]|\\{\\{|\\}\\}|if |end|else|range |with |define ){0,60}") {
        let _ = render(&text, &values());
    }

    #[test]
    fn text_without_actions_stays_as_it_is(text in "[^{]{0,200}") {
        prop_assert_eq!(render(&text, &values()).unwrap(), text);
    }
}
