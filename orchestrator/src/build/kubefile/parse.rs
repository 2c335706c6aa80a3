//! This module owns how directives are recognised, and what is said about those that are not.

use std::collections::BTreeMap;

use crate::clusterfile::{Mistake, tree::Span};

use super::complaints::{KNOWN, unknown, usage};
use super::escape::escape;
use super::lines::{Line, lines};
use super::order::check_order;
use super::words::{first_word, one_word, text, words};
use super::{AppRole, Command, Directive, DirectiveKind, Kubefile, Source, Word};

mod applications;
mod commands;

/// Most mistakes that are collected: more say nothing new.
const MAX_MISTAKES: usize = 100;

/// Reads a Kubefile's text; every mistake in it goes into `mistakes`.
pub fn parse(text: &str, mistakes: &mut Vec<Mistake>) -> Kubefile {
    let mut kubefile = Kubefile::default();
    let escape = escape(text, mistakes);
    for line in lines(text, escape, mistakes) {
        if mistakes.len() >= MAX_MISTAKES {
            break;
        }
        kubefile.directives.extend(directive(&line, mistakes));
    }
    check_order(&kubefile, text, mistakes);
    kubefile
}

fn directive(line: &Line, mistakes: &mut Vec<Mistake>) -> Option<Directive> {
    let name_len = line.text.find(char::is_whitespace).unwrap_or(line.text.len());
    let name = line.text[..name_len].to_ascii_uppercase();
    let name_span = line.span(0, name_len);
    if !KNOWN.contains(&name.as_str()) {
        mistakes.push(unknown(&name, name_span));
        return None;
    }
    if line.text[name_len..].trim().is_empty() {
        mistakes.push(Mistake::new(name_span, format!("{name} has no arguments")).help(usage(&name)));
        return None;
    }
    let mut parser = Parser {
        line,
        name: &name,
        name_span,
        args_start: name_len,
        mistakes,
    };
    let kind = match name.as_str() {
        "FROM" => parser.from(),
        "COPY" => parser.copy(false),
        "ADD" => parser.copy(true),
        "LABEL" => parser.pairs().map(DirectiveKind::Label),
        "ENV" => parser.pairs().map(DirectiveKind::Env),
        "ARG" => parser.arg(),
        "RUN" => parser.run(),
        "CMDS" => parser.commands(name_len).map(DirectiveKind::Cmds),
        "LAUNCH" => parser.launch(),
        "MAINTAINER" => Some(DirectiveKind::Maintainer(parser.rest())),
        "KUBEVERSION" => Some(DirectiveKind::KubeVersion(parser.rest())),
        "APP" => parser.app(AppRole::Any),
        "CNI" => parser.app(AppRole::Cni),
        "CSI" => parser.app(AppRole::Csi),
        "APPCMDS" => parser.app_cmds(),
        "APPENV" => parser.app_env(),
        _ => parser.command().map(DirectiveKind::Cmd),
    }?;
    let words: Vec<&str> = line.text[name_len..].split_whitespace().collect();
    Some(Directive {
        span: line.whole(),
        text: format!("{name} {}", words.join(" ")),
        kind,
    })
}

struct Parser<'a> {
    line: &'a Line,
    name: &'a str,
    name_span: Span,
    args_start: usize,
    mistakes: &'a mut Vec<Mistake>,
}

impl Parser<'_> {
    /// The words after the flags, and the values of the flags `known` that are there. Other flags are mistakes, but for those that say
    /// what happens anyway.
    fn words_and_flags(&mut self, known: &[&str]) -> (Vec<Word>, BTreeMap<String, Word>) {
        let (mut arguments, mut values) = (Vec::new(), BTreeMap::new());
        for word in words(self.line, self.args_start, self.mistakes) {
            let flag = match word.split_at_equals() {
                Some((name, value)) => name.plain().map(|name| (name, Some(value))),
                None => word.plain().map(|name| (name, None)),
            };
            match flag.filter(|(name, _)| name.starts_with("--")) {
                None => arguments.push(word),
                Some((name, Some(given))) if known.contains(&name.as_str()) => {
                    values.insert(name, given);
                }
                Some((name, given)) if self.says_what_is_so(&name, given.as_ref()) => {}
                Some((name, _)) if known.contains(&name.as_str()) => {
                    let mistake = Mistake::new(word.span, format!("{name} has no value"));
                    self.mistakes.push(mistake.help(format!("write {name}=VALUE")));
                }
                Some((name, _)) => {
                    let message = format!("{} {name} is not supported by this version of gantry", self.name);
                    let mistake = Mistake::new(word.span, message);
                    self.mistakes.push(match name.as_str() {
                        "--chown" => mistake.help("leave it out: everything in an image belongs to root"),
                        "--from" => mistake.help("files of another image come with FROM or `gantry merge`"),
                        _ => mistake,
                    });
                }
            }
        }
        (arguments, values)
    }

    /// Whether a flag of COPY or ADD asks for what every layer is: root's, and a layer by itself.
    fn says_what_is_so(&self, flag: &str, value: Option<&Word>) -> bool {
        if !matches!(self.name, "COPY" | "ADD") {
            return false;
        }
        let value = value.map(Word::plain);
        match (flag, value) {
            ("--link", None) => true,
            ("--link", Some(Some(value))) => matches!(value.as_str(), "true" | "false"),
            ("--chown", Some(Some(owner))) => {
                owner.split(':').count() <= 2 && owner.split(':').all(|part| matches!(part, "0" | "root"))
            }
            _ => false,
        }
    }

    fn words(&mut self) -> Vec<Word> {
        self.words_and_flags(&[]).0
    }

    /// Everything as one word.
    fn rest(&mut self) -> Word {
        one_word(self.line, self.args_start, self.mistakes)
    }

    fn from(&mut self) -> Option<DirectiveKind> {
        let (words, mut flags) = self.words_and_flags(&["--platform"]);
        let platform = flags.remove("--platform");
        let mut words = words.into_iter();
        let image = words.next()?;
        let more: Vec<Word> = words.collect();
        let is_name_of_stage = more.len() == 2
            && more[0]
                .plain()
                .is_some_and(|word| word.eq_ignore_ascii_case("as"));
        if let Some(first) = more.first()
            && !is_name_of_stage
        {
            let mistake = Mistake::new(first.span.clone(), "FROM takes one image");
            self.mistakes.push(mistake.help(usage("FROM")));
        }
        Some(DirectiveKind::From { image, platform })
    }

    fn copy(&mut self, unpack: bool) -> Option<DirectiveKind> {
        let (mut words, mut flags) = match self.json(self.args_start) {
            Some(texts) => {
                let span = self.line.span(self.args_start, self.line.text.len());
                let word = |text| Word::of_text(text, span.clone());
                (texts.into_iter().map(word).collect(), BTreeMap::new())
            }
            None => self.words_and_flags(&["--checksum", "--chmod"]),
        };
        let destination = words.pop()?;
        if words.is_empty() {
            let mistake = Mistake::new(self.line.whole(), format!("{} has no destination", self.name));
            self.mistakes.push(mistake.help(usage(self.name)));
            return None;
        }
        let mut heredocs = self.line.heredocs.iter();
        let mut sources = Vec::new();
        for word in words {
            let announces = word.plain().is_some_and(|text| text.starts_with("<<"));
            sources.push(match announces.then(|| heredocs.next()).flatten() {
                None => Source::Path(word),
                Some(heredoc) => Source::Text {
                    name: heredoc.name.clone(),
                    content: if heredoc.expand {
                        text(&heredoc.content, self.mistakes)
                    } else {
                        Word::of_text(heredoc.content.text.clone(), heredoc.content.whole())
                    },
                },
            });
        }
        Some(DirectiveKind::Copy {
            sources,
            destination,
            unpack,
            checksum: flags.remove("--checksum"),
            chmod: flags.remove("--chmod"),
        })
    }

    fn pairs(&mut self) -> Option<Vec<(Word, Word)>> {
        let words = words(self.line, self.args_start, self.mistakes);
        let first = words.first()?;
        if first.split_at_equals().is_none() {
            // The old form: NAME, and everything after it is the value.
            if words.len() < 2 {
                let mistake = Mistake::new(
                    first.span.clone(),
                    format!("{} has a name but no value", self.name),
                );
                self.mistakes.push(mistake.help(usage(self.name)));
                return None;
            }
            let after_name = self.line.text[self.args_start..].trim_start();
            let blank = after_name.find(char::is_whitespace).unwrap_or(after_name.len());
            let value_start = self.line.text.len() - after_name.len() + blank;
            let value = one_word(self.line, value_start, &mut Vec::new());
            return Some(vec![(first.clone(), value)]);
        }
        Some(self.assignments(&words))
    }

    fn assignments(&mut self, words: &[Word]) -> Vec<(Word, Word)> {
        let mut pairs = Vec::new();
        for word in words {
            match word.split_at_equals() {
                Some(pair) => pairs.push(pair),
                None => {
                    let mistake = Mistake::new(word.span.clone(), "here a NAME=VALUE is expected");
                    self.mistakes
                        .push(mistake.help("put a value with blanks in quotes: NAME=\"a b\""));
                }
            }
        }
        pairs
    }

    fn arg(&mut self) -> Option<DirectiveKind> {
        let mut declarations = Vec::new();
        for word in self.words() {
            for word in at_commas(&word) {
                declarations.push(match word.split_at_equals() {
                    Some((name, default)) => (name, Some(default)),
                    None => (word, None),
                });
            }
        }
        Some(DirectiveKind::Arg(declarations))
    }
}

/// sealer 0.8 took several arguments in one word: `ARG a=1,b=2`. A comma that no name and `=` follow is a value's.
fn at_commas(word: &Word) -> Vec<Word> {
    let Some(text) = word.plain() else {
        return vec![word.clone()];
    };
    let is_declaration = |text: &str| {
        text.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
    };
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',') {
        match parts.last_mut() {
            Some(last) if !is_declaration(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    let word = |text| Word::of_text(text, word.span.clone());
    parts.into_iter().map(word).collect()
}

#[cfg(test)]
mod tests;
