//! This module owns how command lines are read: shell lines, lists of JSON, scripts that stand below RUN.

use crate::clusterfile::Mistake;

use super::{Command, DirectiveKind, Parser, usage};

impl Parser<'_> {
    /// RUN. Of its flags there is the one by which a command has no network.
    pub(super) fn run(&mut self) -> Option<DirectiveKind> {
        let mut offline = false;
        loop {
            let rest = &self.line.text[self.args_start..];
            let start = self.line.text.len() - rest.trim_start().len();
            let text = rest.trim();
            if !text.starts_with("--") {
                break;
            }
            let end = start + text.find(char::is_whitespace).unwrap_or(text.len());
            let flag = &self.line.text[start..end];
            match flag {
                "--network=none" => offline = true,
                "--network=default" => {}
                _ => {
                    let name = flag.split('=').next().unwrap_or(flag);
                    let message = format!("RUN {name} is not supported by this version of gantry");
                    let mistake = Mistake::new(self.line.span(start, end), message);
                    self.mistakes.push(match name {
                        "--network" => mistake.help(
                            "a network is given on the command line: `gantry build --network host`; --network=none takes it away",
                        ),
                        _ => mistake,
                    });
                    return None;
                }
            }
            self.args_start = end;
        }
        let command = self.script()?;
        Some(DirectiveKind::Run { command, offline })
    }

    /// The command of RUN, which may be a text that stands below it.
    fn script(&mut self) -> Option<Command> {
        let text = self.line.text[self.args_start..].trim();
        if text.is_empty() {
            let mistake = Mistake::new(self.line.whole(), format!("{} has no command", self.name));
            self.mistakes.push(mistake.help(usage(self.name)));
            return None;
        }
        let Some(first) = self.line.heredocs.first() else {
            return self.command();
        };
        let alone = text.starts_with("<<") && !text.contains(char::is_whitespace);
        if alone && first.content.text.starts_with("#!") {
            let end = first.content.text.find('\n').unwrap_or(first.content.text.len());
            let mistake = Mistake::new(first.content.span(0, end), "the text below RUN is run by /bin/sh");
            self.mistakes.push(mistake.help(format!(
                "name the program that reads it: `RUN PROGRAM <<{}`",
                first.name
            )));
            return None;
        }
        if alone {
            return Some(Command::Shell(first.content.text.clone()));
        }
        // The shell reads them as it always does.
        let mut script = format!("{text}\n");
        for heredoc in &self.line.heredocs {
            script.push_str(&heredoc.content.text);
            script.push_str(&heredoc.name);
            script.push('\n');
        }
        Some(Command::Shell(script))
    }

    /// A shell line, or a program with its arguments.
    pub(super) fn command(&mut self) -> Option<Command> {
        let text = self.line.text[self.args_start..].trim();
        Some(match self.json(self.args_start) {
            Some(arguments) if arguments.is_empty() => {
                let mistake = Mistake::new(self.line.whole(), format!("{} has an empty command", self.name));
                self.mistakes.push(mistake.help(usage(self.name)));
                return None;
            }
            Some(arguments) => Command::Arguments(arguments),
            None => Command::Shell(text.to_owned()),
        })
    }

    /// A JSON list of commands at `from`; anything else is a mistake.
    pub(super) fn commands(&mut self, from: usize) -> Option<Vec<String>> {
        let list = self.json(from);
        if list.as_ref().is_none_or(Vec::is_empty) {
            let text = &self.line.text[from..];
            let start = from + (text.len() - text.trim_start().len());
            let span = if start < self.line.text.len() {
                self.line.span(start, self.line.text.len())
            } else {
                self.line.whole()
            };
            let mistake = Mistake::new(span, format!("{} takes a list of commands in JSON", self.name));
            self.mistakes.push(mistake.help(usage(self.name)));
            return None;
        }
        list
    }

    /// What stands at `from` as a JSON list of strings, if it is meant to be one: `[ -f x ] && y` is not.
    pub(super) fn json(&mut self, from: usize) -> Option<Vec<String>> {
        let text = self.line.text[from..].trim();
        let inside = text.strip_prefix('[')?.trim_start();
        if !inside.starts_with(['"', ']']) {
            return None;
        }
        match serde_json::from_str(text) {
            Ok(list) => Some(list),
            Err(error) => {
                let start = self.line.text.len() - self.line.text[from..].trim_start().len();
                let column = error.column().saturating_sub(1).min(text.len().saturating_sub(1));
                let at = start + text.floor_char_boundary(column);
                let len = self.line.text[at..].chars().next().map_or(0, char::len_utf8);
                let mistake = Mistake::new(
                    self.line.span(at, at + len),
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
