//! This module owns how the directives about applications are read: APP, CNI, CSI, APPCMDS, APPENV, LAUNCH.

use crate::clusterfile::Mistake;

use super::{AppRole, DirectiveKind, Parser, Word, first_word, usage, words};

impl Parser<'_> {
    /// `APP NAME SRC…`.
    pub(super) fn app(&mut self, role: AppRole) -> Option<DirectiveKind> {
        let mut words = self.words().into_iter();
        let name = words.next()?;
        let sources: Vec<Word> = words.collect();
        if sources.is_empty() {
            let mistake = Mistake::new(name.span, format!("{} has a name but no files", self.name));
            self.mistakes.push(mistake.help(usage(self.name)));
            return None;
        }
        Some(DirectiveKind::App { role, name, sources })
    }

    /// `APPCMDS APP ["COMMAND", …]`.
    pub(super) fn app_cmds(&mut self) -> Option<DirectiveKind> {
        let (app, end) = first_word(self.line, self.args_start, self.mistakes)?;
        let commands = self.commands(end)?;
        Some(DirectiveKind::AppCmds { app, commands })
    }

    /// `APPENV APP NAME=VALUE…`.
    pub(super) fn app_env(&mut self) -> Option<DirectiveKind> {
        let words = words(self.line, self.args_start, self.mistakes);
        let (app, assignments) = words.split_first()?;
        if assignments.is_empty() {
            let mistake = Mistake::new(app.span.clone(), "APPENV has an application but no variables");
            self.mistakes.push(mistake.help(usage("APPENV")));
            return None;
        }
        let pairs = self.assignments(assignments);
        let app = app.clone();
        Some(DirectiveKind::AppEnv { app, pairs })
    }

    /// `LAUNCH APP…`, `LAUNCH ["APP", …]`.
    pub(super) fn launch(&mut self) -> Option<DirectiveKind> {
        let apps = match self.json(self.args_start) {
            Some(names) => {
                let span = self.line.span(self.args_start + 1, self.line.text.len());
                let word = |name| Word::of_text(name, span.clone());
                names.into_iter().map(word).collect()
            }
            None => self.words(),
        };
        if apps.is_empty() {
            let mistake = Mistake::new(self.line.whole(), "LAUNCH names no application");
            self.mistakes.push(mistake.help(usage("LAUNCH")));
            return None;
        }
        Some(DirectiveKind::Launch(apps))
    }
}
