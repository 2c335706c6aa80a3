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

fn paths(sources: &[Source]) -> Vec<String> {
    let path = |source: &Source| match source {
        Source::Path(word) => word.plain().unwrap(),
        Source::Text { .. } => panic!("{source:?}"),
    };
    sources.iter().map(path).collect()
}

fn run(command: Command) -> DirectiveKind {
    DirectiveKind::Run {
        command,
        offline: false,
    }
}

#[test]
fn the_two_examples_of_the_rootfs_page_are_read() {
    let directives = parsed("FROM scratch\nCOPY . .\n");
    assert!(
        matches!(&directives[0], DirectiveKind::From { image, .. } if image.plain().as_deref() == Some("scratch"))
    );
    let directives = parsed("FROM kubernetes:v1.19.8\nCOPY daemon.json etc/\n");
    let DirectiveKind::Copy {
        sources, destination, ..
    } = &directives[1]
    else {
        panic!("{directives:?}")
    };
    assert_eq!(
        (paths(sources), destination.plain().unwrap()),
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
    assert_eq!(paths(sources), ["one file", "two", "th ree"]);
    assert_eq!(directives[2], run(Command::Shell("echo \"$X\" &&   true".into())));
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
    let Source::Path(word) = &sources[0] else {
        panic!("{sources:?}")
    };
    let names: Vec<_> = word
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
    let text = "FROM a\nCOPPY a b\nCOPY one\nRUN\nAPP x\nUSER me\nMERGE a b\nENV A\nLABEL \"a\nCOPY --chown=1 a b\nCOPY ${A b\nCMD [\"x\"\nFROM b\n";
    let found = mistakes(text);
    for (place, message, help) in [
        ("COPPY", "unknown directive", "did you mean COPY?"),
        ("COPY one", "no destination", "COPY SRC… DST"),
        ("RUN", "no arguments", "RUN COMMAND"),
        ("x", "APP has a name but no files", "APP NAME local://PATH"),
        ("MERGE", "not merged in a Kubefile", "gantry merge"),
        ("USER", "means nothing in a Kubefile", "leave it out"),
        ("A", "has a name but no value", "ENV NAME=VALUE"),
        ("\"", "never closed", "\\\""),
        ("--chown=1", "COPY --chown is not supported", "belongs to root"),
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
}

#[test]
fn directives_of_applications_are_read() {
    let directives = parsed(
        "FROM a\nApp web local://a local://b\ncni calico local://c\nappenv web A=1 B=\"x y\"\n\
         APPCMDS web [\"helm\", \"up\"]\nKUBEVERSION \">=1.19 <1.30\"\nMAINTAINER A B\nLAUNCH [\"calico\", \"web\"]\n",
    );
    let DirectiveKind::App { role, name, sources } = &directives[1] else {
        panic!("{directives:?}")
    };
    assert_eq!((*role, name.plain().as_deref()), (AppRole::Any, Some("web")));
    assert_eq!(plain(sources), ["local://a", "local://b"]);
    assert!(matches!(
        &directives[2],
        DirectiveKind::App {
            role: AppRole::Cni,
            ..
        }
    ));
    assert!(
        matches!(&directives[3], DirectiveKind::AppEnv { pairs, .. } if pairs[1].1.plain().as_deref() == Some("x y"))
    );
    assert!(matches!(&directives[4], DirectiveKind::AppCmds { commands, .. } if *commands == ["helm", "up"]));
    assert!(
        matches!(&directives[5], DirectiveKind::KubeVersion(word) if word.plain().as_deref() == Some(">=1.19 <1.30"))
    );
    assert!(
        matches!(&directives[6], DirectiveKind::Maintainer(word) if word.plain().as_deref() == Some("A B"))
    );
    assert!(matches!(&directives[7], DirectiveKind::Launch(apps) if plain(apps) == ["calico", "web"]));
    let directives = parsed("FROM a\nLAUNCH calico web");
    assert!(matches!(&directives[1], DirectiveKind::Launch(apps) if plain(apps) == ["calico", "web"]));
    let directives = parsed("FROM a\nCMDS [\"a b\", \"c\"]");
    assert_eq!(directives[1], DirectiveKind::Cmds(vec!["a b".into(), "c".into()]));
}

#[test]
fn what_is_launched_is_said_once_and_last() {
    for (text, message) in [
        ("LAUNCH a\nLAUNCH b", "a second LAUNCH"),
        ("CMDS [\"a\"]\nCMDS [\"b\"]", "a second CMDS"),
        ("CMD a\nLAUNCH b", "exclude each other"),
        ("CMDS [\"a\"]\nLAUNCH b", "exclude each other"),
        ("LAUNCH a\nCOPY a b", "nothing may stand after LAUNCH"),
        ("CMDS a b", "takes a list of commands in JSON"),
        ("APPCMDS web helm up", "takes a list of commands in JSON"),
        ("APPCMDS web", "takes a list of commands in JSON"),
    ] {
        let found = mistakes(&format!("FROM a\n{text}\n"));
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].message.contains(message), "{text}: {found:#?}");
    }
    assert_eq!(mistakes("FROM a\nCMD x\nCOPY a b\nCMD y\n"), []);
}

/// What buildah and docker take, and so does a Kubefile where it says what happens anyway.
#[test]
fn flags_that_say_what_is_so_are_taken_and_others_refused_by_name() {
    let directives = parsed(
        "FROM a\nCOPY --chown=0:0 --link --chmod=0755 a b\nADD --chown=root:root --link=false --chmod=$M a b\n\
         RUN --network=none <<EOF\nid\nEOF\nRUN --network=default [\"id\"]\n",
    );
    let chmod = |at: usize| match &directives[at] {
        DirectiveKind::Copy { sources, chmod, .. } => {
            assert_eq!(paths(sources), ["a"]);
            chmod.clone().unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(chmod(1).plain().as_deref(), Some("0755"));
    assert_eq!(chmod(2).plain(), None);
    assert_eq!(
        directives[3],
        DirectiveKind::Run {
            command: Command::Shell("id\n".into()),
            offline: true
        }
    );
    assert_eq!(directives[4], run(Command::Arguments(vec!["id".into()])));
    for (directive, said) in [
        ("COPY --chown=1000:0 a b", "COPY --chown is not supported"),
        ("COPY --chown=root:root:root a b", "COPY --chown is not supported"),
        ("COPY --from=x a b", "COPY --from is not supported"),
        ("COPY --chmod a b", "--chmod has no value"),
        ("FROM --chown=0:0 a", "FROM --chown is not supported"),
        (
            "RUN --mount=type=cache,target=/x id",
            "RUN --mount is not supported",
        ),
        ("RUN --network=host id", "RUN --network is not supported"),
        ("RUN --network=none", "RUN has no command"),
    ] {
        let found = mistakes(&format!("FROM a\n{directive}\n"));
        assert!(
            found.iter().any(|one| one.message.contains(said)),
            "{directive}: {found:#?}"
        );
    }
}

#[test]
fn texts_stand_below_run_and_copy() {
    let text = "FROM a\nRUN <<EOF\nset -e\n# kept\nEOF\nRUN cat <<A >x && cat <<-'B' >y\na $V\nA\n\tb\nB\n\
                COPY <<hosts <<'raw' etc/\n127.0.0.1 $NAME \\$5 \"q\"\nhosts\n$NAME\nraw\n";
    let directives = parsed(text);
    assert_eq!(directives[1], run(Command::Shell("set -e\n# kept\n".into())));
    assert_eq!(
        directives[2],
        run(Command::Shell(
            "cat <<A >x && cat <<-'B' >y\na $V\nA\nb\nB\n".into()
        ))
    );
    let DirectiveKind::Copy { sources, .. } = &directives[3] else {
        panic!("{directives:?}")
    };
    let [
        Source::Text { name, content },
        Source::Text {
            name: other,
            content: raw,
        },
    ] = sources.as_slice()
    else {
        panic!("{sources:?}")
    };
    assert_eq!((name.as_str(), other.as_str()), ("hosts", "raw"));
    assert_eq!(content.pieces[0], Piece::Text("127.0.0.1 ".into()));
    assert!(
        matches!(&content.pieces[1], Piece::Variable { name, span, .. } if name == "NAME" && &text[span.clone()] == "$NAME")
    );
    assert_eq!(content.pieces[2], Piece::Text(" $5 \"q\"\n".into()));
    assert_eq!(raw.plain().as_deref(), Some("$NAME\n"));

    let found = mistakes("FROM a\nRUN <<EOF\nx\nRUN true\n");
    assert!(found[0].message.contains("<<EOF never ends"), "{found:#?}");
    let found = mistakes("FROM a\nRUN <<EOF\n#!/usr/bin/python3\nx\nEOF\n");
    assert!(
        found[0].help.as_deref().unwrap().contains("RUN PROGRAM <<EOF"),
        "{found:#?}"
    );
}

#[test]
fn another_escape_character_leaves_backslashes_alone() {
    let directives = parsed("# escape=`\nFROM a\nCOPY C:\\x\\ `\n  a` b dst\nRUN echo \\ `\n x\n");
    let DirectiveKind::Copy { sources, .. } = &directives[1] else {
        panic!("{directives:?}")
    };
    assert_eq!(paths(sources), ["C:\\x\\", "a b"]);
    assert_eq!(directives[2], run(Command::Shell("echo \\  x".into())));
}

#[test]
fn one_image_may_be_given_a_name() {
    assert_eq!(mistakes("FROM --platform=linux/arm64 a AS base\n"), []);
    assert_eq!(mistakes("FROM a b\n").len(), 1);
    assert_eq!(mistakes("FROM --platform a\n").len(), 1);
}

/// Text made of what Kubefiles are made of, in any order.
fn kubefile_like() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let known = prop::sample::select(KNOWN.to_vec()).prop_map(str::to_owned);
    let mark = prop::sample::select(vec![
        " ",
        "\n",
        "\r\n",
        "\\\n",
        "\\",
        "`",
        "$",
        "${",
        "}",
        ":-",
        "\"",
        "'",
        "[",
        "]",
        "[\"",
        "\", \"",
        "\"]",
        "=",
        ",",
        "#",
        "# escape=`\n",
        "<<A",
        "<<-'A'",
        "\nA\n",
        "--platform=",
        "--",
        "local://",
        "\u{feff}",
        "\t",
        "ä",
        "\u{2028}",
    ])
    .prop_map(str::to_owned);
    let piece = prop_oneof![2 => known, 6 => mark, 1 => "\\PC{0,6}"];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]

    /// Whatever is read: no panic, every place is a place of the text, and what is said can be shown.
    #[test]
    fn any_text_is_read_or_refused_with_places(text in kubefile_like()) {
        let mut found = Vec::new();
        let kubefile = parse(&text, &mut found);
        for directive in &kubefile.directives {
            proptest::prop_assert!(text.get(directive.span.clone()).is_some(), "{:?}", directive);
        }
        for mistake in &found {
            let beside = mistake.beside.as_ref().map_or(0..0, |(span, _)| span.clone());
            for span in [mistake.span.clone(), beside] {
                proptest::prop_assert!(text.get(span).is_some(), "{:?}", mistake);
            }
        }
        let shown = crate::clusterfile::Mistakes::new("Kubefile", text.as_str(), found.clone()).render(false);
        proptest::prop_assert_eq!(shown.is_empty(), found.is_empty());
    }

    /// A directive means the same wherever its line is broken.
    #[test]
    fn a_line_may_be_broken_between_words(words in proptest::collection::vec("[a-z0-9./=:_-]{1,8}", 2..8)) {
        let (one, broken) = (words.join(" "), words.join(" \\\n  "));
        let kinds = |text: &str| {
            let mut found = Vec::new();
            let kubefile = parse(text, &mut found);
            let texts: Vec<String> = kubefile.directives.into_iter().map(|one| one.text).collect();
            (texts, found.into_iter().map(|one| one.message).collect::<Vec<_>>())
        };
        for name in KNOWN {
            let in_one = kinds(&format!("FROM a\n{name} {one}\n"));
            let in_pieces = kinds(&format!("FROM a\n{name} {broken}\n"));
            proptest::prop_assert_eq!(in_one, in_pieces);
        }
    }
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
        format!("FROM a\nRUN {}", "<<A ".repeat(unit)),
        format!("FROM a\nCOPY <<A .\n{}A\n", "$".repeat(unit)),
        "RUN <<A\n".repeat(unit >> 1),
        format!("FROM a\nLAUNCH {}", "a ".repeat(unit)),
        "\u{0}\u{1}".repeat(unit),
    ] {
        let found = mistakes(&text);
        assert!(found.len() <= 2 * MAX_MISTAKES);
        let shown = crate::clusterfile::Mistakes::new("Kubefile", text, found).render(false);
        assert!(shown.len() < 4 << 20, "{} bytes say too much", shown.len());
    }
}
