//! This module owns what is said about directives that are unknown, not supported, or in the wrong order.

use crate::clusterfile::spelling::closest;
use crate::clusterfile::{Mistake, tree::Span};

use super::{Directive, DirectiveKind, Kubefile};

/// What can be written.
pub(super) const KNOWN: [&str; 7] = ["FROM", "COPY", "LABEL", "ARG", "ENV", "RUN", "CMD"];
/// sealer's other directives.
const UNSUPPORTED: [&str; 11] = [
    "ADD",
    "APP",
    "APPCMDS",
    "APPENV",
    "CMDS",
    "CNI",
    "CSI",
    "KUBEVERSION",
    "LAUNCH",
    "MAINTAINER",
    "MERGE",
];
/// A Dockerfile's directives about how a container runs.
const DOCKER_ONLY: [&str; 9] = [
    "ENTRYPOINT",
    "EXPOSE",
    "HEALTHCHECK",
    "ONBUILD",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
pub(super) fn unknown(name: &str, span: Span) -> Mistake {
    if UNSUPPORTED.contains(&name) {
        return Mistake::new(span, format!("{name} is not supported by this version of gantry"))
            .help(format!("supported are {}", KNOWN.join(", ")));
    }
    if DOCKER_ONLY.contains(&name) {
        return Mistake::new(
            span,
            format!("{name} means nothing in a Kubefile: a ClusterImage is no container"),
        )
        .help("leave it out");
    }
    let shown: String = name.chars().take(40).collect();
    let mistake = Mistake::new(span, format!("unknown directive {shown:?}"));
    match closest(name, KNOWN) {
        Some(near) => mistake.help(format!("did you mean {near}?")),
        None => mistake.help(format!(
            "a line starts with one of {}; a long line goes on after \\",
            KNOWN.join(", ")
        )),
    }
}

pub(super) fn usage(name: &str) -> &'static str {
    match name {
        "FROM" => "write `FROM scratch` or `FROM IMAGE`",
        "COPY" => "write `COPY SRC… DST`; SRC below the build context, DST below the rootfs",
        "LABEL" => "write `LABEL NAME=VALUE…`",
        "ENV" => "write `ENV NAME=VALUE…`",
        "ARG" => "write `ARG NAME` or `ARG NAME=DEFAULT`",
        "RUN" => "write `RUN COMMAND`",
        _ => "write `CMD COMMAND`",
    }
}

pub(super) fn check_order(kubefile: &Kubefile, text: &str, mistakes: &mut Vec<Mistake>) {
    let is_from = |directive: &&Directive| matches!(directive.kind, DirectiveKind::From(_));
    let is_arg = |directive: &&Directive| matches!(directive.kind, DirectiveKind::Arg(_));
    let mut froms = kubefile.directives.iter().filter(is_from);
    let Some(first) = froms.next() else {
        // A FROM that was meant, or has a mistake of its own, is there.
        let about_from = |one: &Mistake| {
            one.message.starts_with("FROM") || one.help.as_deref() == Some("did you mean FROM?")
        };
        if mistakes.iter().any(about_from) {
            return;
        }
        let start = kubefile
            .directives
            .first()
            .map_or(0..text.len().min(1), |first| first.span.clone());
        let mistake = Mistake::new(start, "there is no FROM: nothing says what the image builds on");
        mistakes.push(mistake.help("start with `FROM scratch` or `FROM IMAGE`"));
        return;
    };
    for more in froms {
        let mistake = Mistake::new(
            more.span.clone(),
            "a second FROM: stages are not supported by this version of gantry",
        );
        mistakes.push(mistake.beside(first.span.clone(), "the first one"));
    }
    if let Some(early) = kubefile
        .directives
        .iter()
        .take_while(|directive| !is_from(directive))
        .find(|one| !is_arg(one))
    {
        let mistake = Mistake::new(early.span.clone(), "only ARG may stand before FROM");
        mistakes.push(mistake.beside(first.span.clone(), "move this line to the top"));
    }
}

/// `# escape=X` changes what a backslash means; a Kubefile that says so would be misread.
pub(super) fn check_escape(text: &str, mistakes: &mut Vec<Mistake>) {
    let line = text.lines().next().unwrap_or_default();
    let comment = line
        .trim_start_matches('\u{feff}')
        .trim()
        .strip_prefix('#')
        .unwrap_or_default()
        .trim();
    let escape = comment
        .get(..7)
        .filter(|word| word.eq_ignore_ascii_case("escape="))
        .map(|_| comment[7..].trim());
    if escape.is_some_and(|escape| escape != "\\") {
        let message = "another escape character than \\ is not supported by this version of gantry";
        mistakes.push(Mistake::new(0..line.len(), message));
    }
}
