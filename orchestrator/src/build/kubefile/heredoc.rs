//! This module owns [`Heredoc`]: text that stands below a directive until a line of its own ends it (`<<EOF`).

use crate::clusterfile::Mistake;

use super::lines::Line;

/// Most of them below one directive.
const MAX_HEREDOCS: usize = 100;

/// Text below a directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    /// The word that ends it.
    pub(super) name: String,
    /// Whether variables in it are filled in: not when the word is in quotes.
    pub(super) expand: bool,
    /// Whether tabs at the start of its lines are left out (`<<-`).
    pub(super) tabs: bool,
    /// The text, with a line end after each line.
    pub(super) content: Line,
}

/// The heredocs that `line` announces, without their text.
pub(super) fn announced(line: &Line) -> Vec<Heredoc> {
    let name_len = line.text.find(char::is_whitespace).unwrap_or(line.text.len());
    let (name, arguments) = line.text.split_at(name_len);
    let takes_some = ["RUN", "COPY", "ADD"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known));
    if !takes_some || arguments.trim_start().starts_with("[\"") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for word in shell_words(arguments, line.escape) {
        found.extend(heredoc(word, line.escape));
        if found.len() == MAX_HEREDOCS {
            break;
        }
    }
    found
}

/// The heredoc that `word` announces: `<<NAME`, `<<-NAME`, `<<"NAME"`, `<<'NAME'`, a file descriptor before it or not.
fn heredoc(word: &str, escape: char) -> Option<Heredoc> {
    let word = word
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (word, tabs) = match word.strip_prefix('-') {
        Some(word) => (word, true),
        None => (word, false),
    };
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote));
    let name = quoted.unwrap_or(word);
    let legal = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    legal.then(|| Heredoc {
        name: name.to_owned(),
        expand: quoted.is_none(),
        tabs,
        content: Line::empty(escape),
    })
}

/// The words of a shell line: blanks inside of quotes part nothing.
fn shell_words(text: &str, escape: char) -> Vec<&str> {
    let (mut words, mut start, mut quote, mut escaped) = (Vec::new(), None, None, false);
    for (at, c) in text.char_indices() {
        let blank = c.is_whitespace() && quote.is_none() && !escaped;
        match (start, blank) {
            (Some(begun), true) => {
                words.push(&text[begun..at]);
                start = None;
            }
            (None, false) => start = Some(at),
            _ => {}
        }
        if escaped {
            escaped = false;
        } else if c == escape && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|begun| &text[begun..]));
    words
}

impl Heredoc {
    /// Takes one line of the file; says whether that was the end.
    pub(super) fn take(&mut self, raw: &str, in_file: usize) -> bool {
        let text = raw.trim_end_matches(['\n', '\r']);
        let shown = if self.tabs {
            text.trim_start_matches('\t')
        } else {
            text
        };
        if shown == self.name {
            return true;
        }
        self.content.push(shown, in_file + (text.len() - shown.len()));
        self.content.push("\n", in_file + text.len());
        false
    }

    /// What is said about one that never ends.
    pub(super) fn unclosed(&self, line: &Line) -> Mistake {
        let mistake = Mistake::new(line.whole(), format!("the text of <<{} never ends", self.name));
        mistake.help(format!("end it with a line that is just {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<(String, bool, bool)> {
        let mut text = Line::empty('\\');
        text.push(line, 0);
        announced(&text)
            .into_iter()
            .map(|one| (one.name, one.expand, one.tabs))
            .collect()
    }

    #[test]
    fn what_announces_text_and_what_only_looks_like_it() {
        assert_eq!(
            names("run cat <<A 3<<-B > x && tr <<'C'"),
            [
                ("A".into(), true, false),
                ("B".into(), true, true),
                ("C".into(), false, false)
            ]
        );
        for line in [
            "RUN echo \"a <<B c\"",
            "RUN echo $((1 << 2))",
            "RUN cat <<<x",
            "RUN [\"cat\", \"<<A\"]",
            "ENV A=<<B",
            "RUN a\\ <<B",
        ] {
            assert_eq!(names(line), [], "{line}");
        }
    }
}
