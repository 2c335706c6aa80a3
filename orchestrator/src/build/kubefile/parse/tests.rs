//! What a Kubefile may say, and what is said about one that is wrong.

use super::super::Piece;
use super::*;

fn parsed(text: &str) -> Vec<DirectiveKind> {
    let mut mistakes = Vec::new();
    let kubefile = parse(text, &mut mistakes);
    assert_eq!(mistakes, [], "{text}");
    kubefile
        .directives
        .into_iter()
        .map(|directive| directive.kind)
        .collect()
}

fn mistakes(text: &str) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    parse(text, &mut mistakes);
    mistakes
}

fn plain(words: &[Word]) -> Vec<String> {
    words.iter().map(|word| word.plain().unwrap()).collect()
}

#[test]
fn the_two_examples_of_the_rootfs_page_are_read() {
    let directives = parsed("FROM scratch\nCOPY . .\n");
    assert!(
        matches!(&directives[0], DirectiveKind::From(image) if image.plain().as_deref() == Some("scratch"))
    );
    let directives = parsed("FROM kubernetes:v1.19.8\nCOPY daemon.json etc/\n");
    let DirectiveKind::Copy { sources, destination } = &directives[1] else {
        panic!("{directives:?}")
    };
    assert_eq!(
        (plain(sources), destination.plain().unwrap()),
        (vec!["daemon.json".into()], "etc/".into())
    );
}

#[test]
fn directives_are_known_in_any_case_and_keep_their_arguments() {
    let text = "\u{feff}# syntax is ours\r\nfrom a\r\n  copy \"one file\" two 'th ree' dst/\r\nRun echo \"$X\" && \\\n  true\r\n";
    let directives = parsed(text);
    let DirectiveKind::Copy { sources, .. } = &directives[1] else {
        panic!("{directives:?}")
    };
    assert_eq!(plain(sources), ["one file", "two", "th ree"]);
    assert_eq!(
        directives[2],
        DirectiveKind::Run(Command::Shell("echo \"$X\" &&   true".into()))
    );
}

#[test]
fn names_and_values_have_two_forms() {
    let directives = parsed(
        "FROM a\nENV A=1 B=\"two words\"\nENV OLD form with = in it\nLABEL a.b/c='x y' d=\nARG N\nARG R=2,S=a,b\n",
    );
    let pairs = |kind: &DirectiveKind| match kind {
        DirectiveKind::Env(pairs) | DirectiveKind::Label(pairs) => pairs
            .iter()
            .map(|(name, value)| (name.plain().unwrap(), value.plain().unwrap()))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        pairs(&directives[1]),
        [("A".into(), "1".into()), ("B".into(), "two words".into())]
    );
    assert_eq!(
        pairs(&directives[2]),
        [("OLD".into(), "form with = in it".into())]
    );
    assert_eq!(
        pairs(&directives[3]),
        [("a.b/c".into(), "x y".into()), ("d".into(), String::new())]
    );
    let DirectiveKind::Arg(declared) = &directives[5] else {
        panic!()
    };
    let declared: Vec<_> = declared
        .iter()
        .map(|(name, value)| (name.plain().unwrap(), value.as_ref().unwrap().plain().unwrap()))
        .collect();
    assert_eq!(declared, [("R".into(), "2".into()), ("S".into(), "a,b".into())]);
}

#[test]
fn commands_are_shell_lines_or_lists() {
    let directives = parsed("FROM a\nCMD [\"helm\", \"a b\"]\nCMD [ -f x ] && y\nRUN true\n");
    assert_eq!(
        directives[1],
        DirectiveKind::Cmd(Command::Arguments(vec!["helm".into(), "a b".into()]))
    );
    assert_eq!(
        directives[2],
        DirectiveKind::Cmd(Command::Shell("[ -f x ] && y".into()))
    );
}

#[test]
fn variables_are_found_outside_of_single_quotes() {
    let directives = parsed("FROM a\nCOPY ${A:-x}/$B/'$C'/\\$D .\n");
    let DirectiveKind::Copy { sources, .. } = &directives[1] else {
        panic!()
    };
    let names: Vec<_> = sources[0]
        .pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Variable { name, .. } => name.as_str(),
        })
        .collect();
    assert_eq!(names, ["A", "/", "B", "/$C/$D"]);
}

#[test]
fn every_mistake_has_its_place_and_a_way_out() {
    let text = "FROM a\nCOPPY a b\nCOPY one\nRUN\nAPP x local://y\nUSER me\nENV A\nLABEL \"a\nCOPY --chown=1 a b\nCOPY ${A b\nCMD [\"x\"\nFROM b\n";
    let found = mistakes(text);
    for (place, message, help) in [
        ("COPPY", "unknown directive", "did you mean COPY?"),
        ("COPY one", "no destination", "COPY SRC… DST"),
        ("RUN", "no arguments", "RUN COMMAND"),
        ("APP", "APP is not supported by this version", "FROM, COPY"),
        ("USER", "means nothing in a Kubefile", "leave it out"),
        ("A", "has a name but no value", "ENV NAME=VALUE"),
        ("\"", "never closed", "\\\""),
        ("--chown=1", "COPY --chown is not supported", ""),
        ("${A b", "never closed", "}"),
        ("FROM b", "a second FROM", ""),
    ] {
        let here = |one: &&Mistake| &text[one.span.clone()] == place && one.message.contains(message);
        let mistake = found
            .iter()
            .find(here)
            .unwrap_or_else(|| panic!("{place}: {message} is not in {found:#?}"));
        assert!(
            mistake.help.as_deref().unwrap_or_default().contains(help),
            "{mistake:?}"
        );
    }
    assert!(
        found
            .iter()
            .any(|one| one.message.contains("not a JSON list of strings")),
        "{found:#?}"
    );
}

#[test]
fn from_comes_first_and_only_once() {
    assert!(
        mistakes("")
            .iter()
            .any(|one| one.message.contains("there is no FROM"))
    );
    assert!(
        mistakes("COPY a b\n")
            .iter()
            .any(|one| one.message.contains("there is no FROM"))
    );
    assert!(
        mistakes("COPY a b\nFROM a\n")
            .iter()
            .any(|one| one.message.contains("only ARG may stand before"))
    );
    assert_eq!(mistakes("ARG V=1\nFROM a:$V\n"), []);
    assert_eq!(
        mistakes("FORM a\nCOPY a b\n").len(),
        1,
        "the FROM that was meant is not missing as well"
    );
    assert_eq!(mistakes("# escape=`\nFROM a\n").len(), 1);
}

#[test]
fn a_megabyte_of_anything_ends_soon() {
    let unit = 1 << 18;
    for text in [
        "\\\n".repeat(unit),
        format!("FROM a\nRUN {}", "x \\\n".repeat(unit)),
        format!("FROM a\nCOPY {} .", "${".repeat(unit)),
        format!("FROM a\nCMD {}", "[\"".repeat(unit)),
        format!("FROM a\nENV {}", "\"'".repeat(unit)),
        "X\n".repeat(unit),
        "\u{0}\u{1}".repeat(unit),
    ] {
        let found = mistakes(&text);
        assert!(found.len() <= 2 * MAX_MISTAKES);
        let shown = crate::clusterfile::Mistakes::new("Kubefile", text, found).render(false);
        assert!(shown.len() < 4 << 20, "{} bytes say too much", shown.len());
    }
}
