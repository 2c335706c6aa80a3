//! This module owns [`Word`]: one argument of a directive, quotes understood, variables found but not yet filled in.

use crate::clusterfile::Mistake;
use crate::clusterfile::tree::Span;

use super::lines::Line;

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Where it stands.
    pub span: Span,
    /// What it is made of.
    pub pieces: Vec<Piece>,
}

/// Part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text, quotes and escapes taken out.
    Text(String),
    /// A variable.
    Variable {
        /// Its name.
        name: String,
        /// Where it stands.
        span: Span,
        /// What to do when it has a value or has none.
        otherwise: Otherwise,
    },
}

/// What a variable gives besides its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Otherwise {
    /// `$X`, `${X}`: it must exist.
    Nothing,
    /// `${X:-text}`: this, when it does not exist or is empty.
    Default(String),
    /// `${X:+text}`: this instead, when it exists and is not empty; nothing otherwise.
    Instead(String),
}

impl Word {
    /// The text, if there is no variable in it.
    #[must_use]
    pub fn plain(&self) -> Option<String> {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => Some(text.clone()),
            Piece::Variable { .. } => None,
        };
        self.pieces.iter().map(text).collect()
    }

    /// The word `text`, which stands at `span`.
    #[must_use]
    pub fn of_text(text: impl Into<String>, span: Span) -> Self {
        let text = text.into();
        let pieces = text_piece(&text).into_iter().collect();
        Self { span, pieces }
    }

    /// The words before and after the first `=` in the text; none when there is no `=`.
    #[must_use]
    pub fn split_at_equals(&self) -> Option<(Self, Self)> {
        let (at, text) = self
            .pieces
            .iter()
            .enumerate()
            .find_map(|(at, piece)| match piece {
                Piece::Text(text) if text.contains('=') => Some((at, text)),
                _ => None,
            })?;
        let (before, after) = text.split_once('=')?;
        let word = |pieces: Vec<Piece>| Self {
            span: self.span.clone(),
            pieces,
        };
        let mut left = self.pieces[..at].to_vec();
        left.extend(text_piece(before));
        let mut right: Vec<_> = text_piece(after).into_iter().collect();
        right.extend_from_slice(&self.pieces[at + 1..]);
        Some((word(left), word(right)))
    }
}

fn text_piece(text: &str) -> Option<Piece> {
    (!text.is_empty()).then(|| Piece::Text(text.to_owned()))
}

/// The words of `line.text[from..]`, separated by blanks outside of quotes.
pub(super) fn words(line: &Line, from: usize, mistakes: &mut Vec<Mistake>) -> Vec<Word> {
    let mut lexer = Lexer {
        line,
        at: from,
        mistakes,
    };
    let mut words = Vec::new();
    loop {
        lexer.skip_blanks();
        if lexer.peek().is_none() {
            return words;
        }
        words.push(lexer.word(true));
    }
}

/// The first word of `line.text[from..]`, and where it ends; none when there is none.
pub(super) fn first_word(line: &Line, from: usize, mistakes: &mut Vec<Mistake>) -> Option<(Word, usize)> {
    let mut lexer = Lexer {
        line,
        at: from,
        mistakes,
    };
    lexer.skip_blanks();
    lexer.peek()?;
    let word = lexer.word(true);
    Some((word, lexer.at))
}

/// Everything in `line.text[from..]` as one word; blanks are part of it.
pub(super) fn one_word(line: &Line, from: usize, mistakes: &mut Vec<Mistake>) -> Word {
    let mut lexer = Lexer {
        line,
        at: from,
        mistakes,
    };
    lexer.skip_blanks();
    lexer.word(false)
}

/// All of `line.text` as one word in which variables are found and nothing else: quotes mean themselves.
pub(super) fn text(line: &Line, mistakes: &mut Vec<Mistake>) -> Word {
    let mut lexer = Lexer {
        line,
        at: 0,
        mistakes,
    };
    let (mut pieces, mut text) = (Vec::new(), String::new());
    while let Some(next) = lexer.peek() {
        let at = lexer.at;
        lexer.next();
        if next == '$'
            && let Some(variable) = lexer.variable(at)
        {
            pieces.extend(text_piece(&std::mem::take(&mut text)));
            pieces.push(variable);
        } else if next == line.escape
            && let Some(escaped) = lexer.peek().filter(|c| *c == '$' || *c == line.escape)
        {
            lexer.next();
            text.push(escaped);
        } else {
            text.push(next);
        }
    }
    pieces.extend(text_piece(&text));
    Word {
        span: line.whole(),
        pieces,
    }
}

struct Lexer<'a> {
    line: &'a Line,
    at: usize,
    mistakes: &'a mut Vec<Mistake>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.line.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn word(&mut self, blanks_end: bool) -> Word {
        let start = self.at;
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut quote: Option<(char, usize)> = None;
        while let Some(next) = self.peek() {
            if quote.is_none() && blanks_end && next.is_whitespace() {
                break;
            }
            let at = self.at;
            self.next();
            match (next, quote) {
                ('\'' | '"', None) => quote = Some((next, at)),
                (_, Some((open, _))) if next == open => quote = None,
                ('$', None | Some(('"', _))) => match self.variable(at) {
                    Some(variable) => {
                        pieces.extend(text_piece(&std::mem::take(&mut text)));
                        pieces.push(variable);
                    }
                    None => text.push('$'),
                },
                (escape, None) if escape == self.line.escape => text.extend(self.next()),
                (escape, Some(('"', _))) if escape == self.line.escape => match self.peek() {
                    Some(escaped) if escaped == escape || matches!(escaped, '"' | '$') => {
                        self.next();
                        text.push(escaped);
                    }
                    _ => text.push(escape),
                },
                (other, _) => text.push(other),
            }
        }
        if let Some((open, at)) = quote {
            self.mistakes.push(
                Mistake::new(self.line.span(at, at + 1), format!("this {open} is never closed")).help(
                    format!(
                        "end the text with {open}, or write {}{open} for the character itself",
                        self.line.escape
                    ),
                ),
            );
        }
        pieces.extend(text_piece(&text));
        Word {
            span: self.line.span(start, self.at),
            pieces,
        }
    }

    /// A variable whose `$` stands at `dollar`; none when no name follows.
    fn variable(&mut self, dollar: usize) -> Option<Piece> {
        let braced = self.peek() == Some('{');
        if braced {
            self.next();
        }
        let name_start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            self.next();
        }
        let name = self.line.text[name_start..self.at].to_owned();
        if !braced {
            let span = self.line.span(dollar, self.at);
            return (!name.is_empty()).then_some(Piece::Variable {
                name,
                span,
                otherwise: Otherwise::Nothing,
            });
        }
        let rest = &self.line.text[self.at..];
        let Some(end) = rest.find('}') else {
            let span = self.line.span(dollar, self.line.text.len());
            self.mistakes
                .push(Mistake::new(span, "this ${ is never closed").help("end the variable with }"));
            self.at = self.line.text.len();
            return None;
        };
        let modifier = &rest[..end];
        self.at += end + 1;
        let span = self.line.span(dollar, self.at);
        let otherwise = match modifier.get(..2) {
            _ if modifier.is_empty() => Some(Otherwise::Nothing),
            Some(":-") => Some(Otherwise::Default(modifier[2..].to_owned())),
            Some(":+") => Some(Otherwise::Instead(modifier[2..].to_owned())),
            _ => None,
        };
        match otherwise {
            Some(otherwise) if !name.is_empty() && !modifier.contains('$') => Some(Piece::Variable {
                name,
                span,
                otherwise,
            }),
            _ => {
                let mistake = Mistake::new(span, "this is not a variable that a Kubefile knows");
                self.mistakes
                    .push(mistake.help("write $NAME, ${NAME}, ${NAME:-text} or ${NAME:+text}"));
                None
            }
        }
    }
}
