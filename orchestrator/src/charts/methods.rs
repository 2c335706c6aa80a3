//! Methods in charts' templates: `.Capabilities.APIVersions.Has "v1"` is a call in Go, where values have methods. Here they are
//! functions in a map, which `call` calls.

/// Methods that take arguments, by how their names end.
const METHODS: [&str; 7] = [
    ".APIVersions.Has",
    ".Files.Get",
    ".Files.GetBytes",
    ".Files.Glob",
    ".Files.Lines",
    ".Files.AsConfig",
    ".Files.AsSecrets",
];

/// `text` with `call` before every method in an action.
pub(super) fn with_calls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let end = rest[start..].find("}}").map_or(rest.len(), |end| start + end);
        out.push_str(&rest[..start]);
        action(&rest[start..end], &mut out);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn action(text: &str, out: &mut String) {
    let mut word_start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let in_word = c.is_alphanumeric() || matches!(c, '.' | '$' | '_');
        match (word_start, in_word) {
            (None, true) => word_start = Some(at),
            (Some(start), false) => {
                let word = &text[start..at];
                if METHODS.iter().any(|method| word.ends_with(method)) {
                    out.push_str("call ");
                }
                out.push_str(word);
                word_start = None;
            }
            _ => {}
        }
        if !in_word && at < text.len() {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_called_and_nothing_else_is_changed() {
        for (text, changed) in [
            (
                "{{ if .Capabilities.APIVersions.Has \"a/v1\" }}x{{ end }} .Files.Get",
                "{{ if call .Capabilities.APIVersions.Has \"a/v1\" }}x{{ end }} .Files.Get",
            ),
            (
                "{{- (.Files.Get \"é\") | b64enc -}}",
                "{{- (call .Files.Get \"é\") | b64enc -}}",
            ),
            ("{{ .Values.a }}{{", "{{ .Values.a }}{{"),
        ] {
            assert_eq!(with_calls(text), changed);
        }
    }
}
