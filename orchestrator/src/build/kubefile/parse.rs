//! This module owns how directives are recognised, and what is said about those that are not.

use crate::clusterfile::{Mistake, tree::Span};

use super::complaints::{KNOWN, check_escape, check_order, unknown, usage};
use super::lines::{Line, lines};
use super::words::{one_word, words};
use super::{Command, Directive, DirectiveKind, Kubefile, Word};

/// Most mistakes that are collected: more say nothing new.
const MAX_MISTAKES: usize = 100;

/// Reads a Kubefile's text; every mistake in it goes into `mistakes`.
pub fn parse(text: &str, mistakes: &mut Vec<Mistake>) -> Kubefile {
    let mut kubefile = Kubefile::default();
    check_escape(text, mistakes);
    for line in lines(text) {
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
        "COPY" => parser.copy(),
        "LABEL" => parser.pairs().map(DirectiveKind::Label),
        "ENV" => parser.pairs().map(DirectiveKind::Env),
        "ARG" => parser.arg(),
        "RUN" => parser.command().map(DirectiveKind::Run),
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
    fn words(&mut self) -> Vec<Word> {
        let words = words(self.line, self.args_start, self.mistakes);
        let flags = words
            .iter()
            .filter(|word| word.plain().is_some_and(|text| text.starts_with("--")));
        for flag in flags {
            let text = flag.plain().unwrap_or_default();
            let text = text.split('=').next().unwrap_or_default().to_owned();
            let mistake = Mistake::new(
                flag.span.clone(),
                format!("{} {text} is not supported by this version of gantry", self.name),
            );
            self.mistakes.push(match (self.name, text.as_str()) {
                ("FROM", "--platform") => {
                    mistake.help("give the platform on the command line: `gantry build --platform`")
                }
                _ => mistake,
            });
        }
        words
    }

    fn from(&mut self) -> Option<DirectiveKind> {
        let words = self.words();
        let mut images = words
            .into_iter()
            .filter(|word| !word.plain().is_some_and(|text| text.starts_with("--")));
        let image = images.next()?;
        if let Some(more) = images.next() {
            let mistake = Mistake::new(more.span, "FROM takes one image");
            self.mistakes
                .push(mistake.help("stages (`FROM … AS …`) are not supported by this version of gantry"));
        }
        Some(DirectiveKind::From(image))
    }

    fn copy(&mut self) -> Option<DirectiveKind> {
        let mut words = match self.json() {
            Some(texts) => {
                let span = self.line.span(self.args_start, self.line.text.len());
                let word = |text| Word {
                    span: span.clone(),
                    pieces: vec![super::Piece::Text(text)],
                };
                texts.into_iter().map(word).collect()
            }
            None => self.words(),
        };
        let destination = words.pop()?;
        if words.is_empty() {
            let mistake = Mistake::new(self.line.whole(), "COPY has no destination");
            self.mistakes.push(mistake.help(usage("COPY")));
            return None;
        }
        Some(DirectiveKind::Copy {
            sources: words,
            destination,
        })
    }

    fn pairs(&mut self) -> Option<Vec<(Word, Word)>> {
        let words = self.words();
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
        let mut pairs = Vec::new();
        for word in &words {
            match word.split_at_equals() {
                Some(pair) => pairs.push(pair),
                None => {
                    let mistake = Mistake::new(word.span.clone(), "here a NAME=VALUE is expected");
                    self.mistakes
                        .push(mistake.help("put a value with blanks in quotes: NAME=\"a b\""));
                }
            }
        }
        Some(pairs)
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

    fn command(&mut self) -> Option<Command> {
        let text = self.line.text[self.args_start..].trim();
        if self.name == "RUN" && text.starts_with("--") {
            let end = text.find(char::is_whitespace).unwrap_or(text.len());
            let start = self.line.text.len() - self.line.text[self.args_start..].trim_start().len();
            let span = self.line.span(start, start + end);
            self.mistakes.push(Mistake::new(
                span,
                "flags of RUN are not supported by this version of gantry",
            ));
            return None;
        }
        Some(match self.json() {
            Some(arguments) if arguments.is_empty() => {
                let mistake = Mistake::new(self.line.whole(), format!("{} has an empty command", self.name));
                self.mistakes.push(mistake.help(usage(self.name)));
                return None;
            }
            Some(arguments) => Command::Arguments(arguments),
            None => Command::Shell(text.to_owned()),
        })
    }

    /// The arguments as a JSON list of strings, if they are meant to be one: `[ -f x ] && y` is not.
    fn json(&mut self) -> Option<Vec<String>> {
        let text = self.line.text[self.args_start..].trim();
        let inside = text.strip_prefix('[')?.trim_start();
        if !inside.starts_with(['"', ']']) {
            return None;
        }
        match serde_json::from_str(text) {
            Ok(list) => Some(list),
            Err(error) => {
                let start = self.line.text.len() - self.line.text[self.args_start..].trim_start().len();
                let at = start + error.column().saturating_sub(1).min(text.len().saturating_sub(1));
                let mistake = Mistake::new(
                    self.line.span(at, at + 1),
                    format!(
                        "this is not a JSON list of strings: {}",
                        without_place(&error.to_string())
                    ),
                );
                self.mistakes
                    .push(mistake.beside(self.name_span.clone(), "for this directive"));
                Some(vec![String::new()])
            }
        }
    }
}

/// The JSON parser's own line and column mean nothing in a Kubefile.
fn without_place(text: &str) -> &str {
    text.split(" at line ").next().unwrap_or(text)
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
    let piece = |text| Word {
        span: word.span.clone(),
        pieces: vec![super::Piece::Text(text)],
    };
    parts.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests;
