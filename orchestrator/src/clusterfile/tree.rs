//! This module owns [`Node`]: YAML text as a tree in which everything knows its place.
//!
//! Only text that is small enough to have been written by a person is read: see the constants.

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError};

use super::mistake::Mistake;

/// Longest Clusterfile, in bytes.
pub const MAX_LEN: usize = 1 << 20;

/// What may be in a text, at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Nodes, aliases expanded.
    pub nodes: usize,
    /// Nesting.
    pub depth: usize,
    /// Documents.
    pub documents: usize,
}

/// Those of a Clusterfile: one of a thousand hosts has about five thousand nodes, none is nested deeper than 8.
pub const CLUSTERFILE: Bounds = Bounds {
    nodes: 50_000,
    depth: 32,
    documents: 64,
};

/// A place in the text: bytes.
pub type Span = Range<usize>;

/// One value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it is.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// What a node is. Scalars stay text: what they mean is decided by the field they stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar.
    Scalar {
        /// Its text, escapes resolved.
        text: String,
        /// Written without quotes, so that `5000` is a number and `true` a truth value.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text.
    Map(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Where the name is.
    pub key_span: Span,
    /// Whether the name is written without quotes.
    pub key_plain: bool,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The field `key` of a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// The fields of a mapping; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value {
            entries
        } else {
            &[]
        }
    }

    /// The items of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value {
            items
        } else {
            &[]
        }
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Value::Scalar { text, .. } = &self.value {
            Some(text)
        } else {
            None
        }
    }

    /// What the node is, in words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { text, plain: true } if text.parse::<f64>().is_ok() => "a number",
            Value::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "false") => {
                "a truth value"
            }
            Value::Scalar { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads every document of a Clusterfile that is not empty. What could be read is returned beside the mistakes.
#[must_use]
pub fn parse(text: &str) -> (Vec<Node>, Vec<Mistake>) {
    parse_within(text, CLUSTERFILE)
}

/// As [`parse`], for a text of other bounds.
#[must_use]
pub fn parse_within(text: &str, bounds: Bounds) -> (Vec<Node>, Vec<Mistake>) {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: bounds.depth,
        block_nesting_limit: bounds.depth,
    };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        len: text.len(),
        bounds,
        nodes: 0,
        anchors: HashMap::new(),
        mistakes: Vec::new(),
    };
    let mut documents = Vec::new();
    if let Err(mistake) = builder.documents(&mut documents) {
        builder.mistakes.push(mistake);
    }
    (documents, builder.mistakes)
}

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    len: usize,
    bounds: Bounds,
    nodes: usize,
    anchors: HashMap<usize, (Node, usize)>,
    mistakes: Vec<Mistake>,
}

impl<'a> Builder<'a> {
    fn documents(&mut self, documents: &mut Vec<Node>) -> Result<(), Mistake> {
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentStart(..) if documents.len() == self.bounds.documents => {
                    return Err(Mistake::new(
                        span,
                        format!("more than {} documents in one file", self.bounds.documents),
                    ));
                }
                Event::DocumentStart(..) => {
                    let Some((event, span)) = self.next()? else {
                        return Ok(());
                    };
                    let node = self.node(event, span)?;
                    if node.value != Value::Null {
                        documents.push(node);
                    }
                }
                Event::StreamEnd => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Mistake> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                let end = self.len;
                let offset = |marker: granit_parser::Marker| marker.byte_offset().unwrap_or(end).min(end);
                let (start, stop) = (offset(span.start), offset(span.end));
                Ok(Some((event, start..stop.max(start))))
            }
            Some(Err(error)) => Err(syntax(&error, self.len)),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Mistake> {
        self.count(1, &span)?;
        let nodes_before = self.nodes;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let null = plain && matches!(&*text, "" | "~" | "null");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar {
                        text: text.into_owned(),
                        plain,
                    }
                };
                (Node { span, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list(span)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(span)?, anchor),
            Event::Alias(id) => {
                let Some((node, nodes)) = self.anchors.get(&id) else {
                    return Err(Mistake::new(span, "this alias stands inside what it names"));
                };
                let (node, nodes) = (
                    Node {
                        span: span.clone(),
                        value: node.value.clone(),
                    },
                    *nodes,
                );
                self.count(nodes, &span)?;
                return Ok(node);
            }
            _ => return Err(Mistake::new(span, "a value is missing here")),
        };
        if anchor != 0 {
            self.anchors
                .insert(anchor, (node.clone(), self.nodes - nodes_before));
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Mistake> {
        self.nodes += nodes;
        if self.nodes > self.bounds.nodes {
            return Err(Mistake::new(
                span.clone(),
                format!("more than {} values in one file", self.bounds.nodes),
            ));
        }
        Ok(())
    }

    fn list(&mut self, start: Span) -> Result<Node, Mistake> {
        let mut items: Vec<Node> = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, span)?);
        }
        let end = items.last().map_or(start.end, |item| item.span.end);
        Ok(Node {
            span: start.start..end.max(start.end),
            value: Value::List(items),
        })
    }

    fn map(&mut self, start: Span) -> Result<Node, Mistake> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, span)?;
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, span)?;
            let Some(name) = key.text().map(str::to_owned) else {
                self.mistakes
                    .push(Mistake::new(key.span, "a field's name has to be text"));
                continue;
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                let message = format!("`{name}` is given twice");
                let mistake = Mistake::new(key.span, message).beside(first.key_span.clone(), "first here");
                self.mistakes.push(mistake.help("keep one of them"));
                continue;
            }
            let key_plain = matches!(key.value, Value::Scalar { plain: true, .. });
            entries.push(Entry {
                key: name,
                key_span: key.span,
                key_plain,
                value,
            });
        }
        let end = entries.last().map_or(start.end, |entry| entry.value.span.end);
        Ok(Node {
            span: start.start..end.max(start.end),
            value: Value::Map(entries),
        })
    }
}

fn syntax(error: &ScanError, len: usize) -> Mistake {
    let at = error.marker().byte_offset().unwrap_or(len).min(len);
    let help = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar => Some("YAML is indented with spaces; replace the tab"),
        _ if at < len => Some("check the indentation, quotes and brackets of this line and the one above"),
        _ => Some("the text ends too early; is a quote or bracket left open?"),
    };
    let mistake = Mistake::new(at..at, format!("this is not YAML: {}", error.info()));
    if let Some(help) = help {
        mistake.help(help)
    } else {
        mistake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_place() {
        let text = "a: 1\nlist:\n  - 'x'\n";
        let (documents, mistakes) = parse(text);
        assert_eq!(mistakes, []);
        let item = &documents[0].get("list").unwrap().items()[0];
        assert_eq!(&text[item.span.clone()], "'x'");
        assert_eq!(documents[0].get("a").unwrap().kind(), "a number");
    }

    #[test]
    fn nesting_and_alias_bombs_are_refused_fast() {
        for text in ["[".repeat(900_000), format!("{}1", "a: {".repeat(200_000))] {
            assert_eq!(parse(&text).1.len(), 1);
        }
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let one = format!("*a{}", level - 1);
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                [one.as_str(); 10].join(", ")
            ));
        }
        assert!(parse(&bomb).1[0].message.contains("more than"));
    }
}
