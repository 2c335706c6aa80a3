//! This module owns the order of directives: FROM first and once, what is launched last and once.

use crate::clusterfile::Mistake;

use super::{Directive, DirectiveKind, Kubefile};

pub(super) fn check_order(kubefile: &Kubefile, text: &str, mistakes: &mut Vec<Mistake>) {
    let is_from = |directive: &&Directive| matches!(directive.kind, DirectiveKind::From { .. });
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
            .map_or(0..text.chars().next().map_or(0, char::len_utf8), |first| {
                first.span.clone()
            });
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
    check_launch(kubefile, mistakes);
}

/// `LAUNCH` and `CMDS` say once, and at the end, what is run; `CMD` may stand anywhere, but not beside `LAUNCH`.
fn check_launch(kubefile: &Kubefile, mistakes: &mut Vec<Mistake>) {
    let all = &kubefile.directives;
    let is_launch = |one: &&Directive| matches!(one.kind, DirectiveKind::Launch(_));
    let is_cmds = |one: &&Directive| matches!(one.kind, DirectiveKind::Cmds(_));
    let is_cmd = |one: &&Directive| matches!(one.kind, DirectiveKind::Cmd(_));
    let (launch, cmds) = (all.iter().find(is_launch), all.iter().find(is_cmds));
    for (first, name, same) in [
        (launch, "LAUNCH", &is_launch as &dyn Fn(&&Directive) -> bool),
        (cmds, "CMDS", &is_cmds),
    ] {
        let Some(first) = first else { continue };
        for more in all.iter().filter(same).skip(1) {
            let mistake = Mistake::new(more.span.clone(), format!("a second {name}"));
            let mistake = mistake.beside(first.span.clone(), "the first one");
            mistakes.push(mistake.help("put both lists into one"));
        }
    }
    if let (Some(launch), Some(lines)) = (launch, cmds.or_else(|| all.iter().find(is_cmd))) {
        let mistake = Mistake::new(
            launch.span.clone(),
            "LAUNCH and commands exclude each other: an image launches applications or runs lines",
        );
        let mistake = mistake.beside(lines.span.clone(), "the commands");
        mistakes.push(
            mistake.help("make the commands an application with `APP` and `APPCMDS`, or leave LAUNCH out"),
        );
        return;
    }
    let Some(said) = launch.or(cmds) else { return };
    let name = if launch.is_some() { "LAUNCH" } else { "CMDS" };
    let mut after = all.iter().skip_while(|one| !std::ptr::eq(*one, said)).skip(1);
    let ours = |one: &&Directive| is_launch(one) || is_cmds(one);
    if let Some(late) = after.find(|one| !ours(one)) {
        let mistake = Mistake::new(late.span.clone(), format!("nothing may stand after {name}"));
        mistakes.push(mistake.beside(said.span.clone(), "move this line to the end"));
    }
}
