//! Lists in the text of a file: where an item begins and ends, and what to cut so that the list loses it.

use std::net::IpAddr;
use std::ops::Range;

use super::EditError;
use crate::clusterfile::tree::{Node, Value};

/// Where `addresses` come into a list that has others, and what is written there.
pub(super) fn behind_the_last(text: &str, list: &Node, addresses: &[IpAddr]) -> Option<(usize, String)> {
    let last = list.items().last()?;
    if is_flow(text, list) {
        let more: String = addresses.iter().map(|address| format!(", {address}")).collect();
        return Some((last.span.end, more));
    }
    let lead = lead(text, last.span.start);
    let more = addresses
        .iter()
        .map(|address| format!("\n{lead}{address}"))
        .collect();
    Some((line_end(text, last.span.end), more))
}

/// Addresses as they stand in brackets.
pub(super) fn joined(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

/// What to cut out of `text`, so that the list loses the items of these numbers; others stay in it.
pub(super) fn cuts_of(text: &str, list: &Node, gone: &[usize]) -> Result<Vec<Range<usize>>, EditError> {
    let items = list.items();
    let flow = is_flow(text, list);
    gone.iter()
        .map(|&index| {
            let item = &items[index];
            if flow {
                // With the comma before it, or behind it where all before it go as well.
                let stays_before = (0..index).any(|before| !gone.contains(&before));
                return Ok(if stays_before {
                    whole_end(text, &items[index - 1])..whole_end(text, item)
                } else {
                    item.span.start
                        ..items
                            .get(index + 1)
                            .map_or_else(|| whole_end(text, item), |next| next.span.start)
                });
            }
            let start = line_start(text, item.span.start);
            if text[start..item.span.start].trim() != "-" {
                return Err(EditError::Unusual);
            }
            let end = line_end(text, whole_end(text, item));
            Ok(start..(end + 1).min(text.len()))
        })
        .collect()
}

/// Whether a list or mapping is written in brackets.
pub(super) fn is_flow(text: &str, node: &Node) -> bool {
    matches!(text.as_bytes().get(node.span.start), Some(b'[' | b'{'))
}

/// Where a node ends, its closing bracket included.
pub(super) fn whole_end(text: &str, node: &Node) -> usize {
    let last = match &node.value {
        Value::List(items) => items.last(),
        Value::Map(entries) => entries.last().map(|entry| &entry.value),
        Value::Null | Value::Scalar { .. } => return node.span.end,
    };
    let end = last.map_or(node.span.start + usize::from(is_flow(text, node)), |last| {
        whole_end(text, last)
    });
    if !is_flow(text, node) {
        return end;
    }
    let mut comment = false;
    for (at, byte) in text.bytes().enumerate().skip(end) {
        match byte {
            b'\n' => comment = false,
            b'#' => comment = true,
            b']' | b'}' if !comment => return at + 1,
            _ => {}
        }
    }
    end
}

pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the line of `at` ends, before its newline.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}

pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// What stands before an item of a block list on its line: spaces and a dash.
pub(super) fn lead(text: &str, item: usize) -> &str {
    &text[line_start(text, item)..item]
}
