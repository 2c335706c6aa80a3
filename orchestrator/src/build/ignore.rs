//! This module owns [`Ignore`]: what `.kubeignore` keeps out of a build, in the syntax of `.dockerignore`.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use globset::GlobMatcher;

use super::pattern::matcher;

/// Names of the file; the first that is there counts.
const FILES: [&str; 2] = [".kubeignore", ".dockerignore"];
/// Most bytes of the file.
const MAX_LEN: u64 = 1 << 20;
/// Most patterns: each is compared with every file.
const MAX_PATTERNS: usize = 1000;

/// What is kept out.
#[derive(Debug, Clone, Default)]
pub(super) struct Ignore {
    file: &'static str,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// Line in the file, from 1.
    line: usize,
    /// Whether it lets in again (`!`).
    again: bool,
    matcher: GlobMatcher,
}

impl Ignore {
    /// What the file of the context at `root` says; nothing when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or a pattern is none: `FILE:LINE: what`.
    pub(super) fn read(root: &Path) -> Result<Self, String> {
        for file in FILES {
            let path = root.join(file);
            let opened = match fs::File::open(&path) {
                Ok(opened) => opened,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(format!("cannot open {}: {error}", path.display())),
            };
            let mut text = String::new();
            opened
                .take(MAX_LEN + 1)
                .read_to_string(&mut text)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            if text.len() as u64 > MAX_LEN {
                return Err(format!("{} is larger than 1 MiB", path.display()));
            }
            return Self::parse(file, &text);
        }
        Ok(Self::default())
    }

    fn parse(file: &'static str, text: &str) -> Result<Self, String> {
        let mut patterns = Vec::new();
        for (line, raw) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let text = raw.trim();
            if text.is_empty() || raw.starts_with('#') {
                continue;
            }
            let (again, text) = match text.strip_prefix('!') {
                Some(text) => (true, text.trim()),
                None => (false, text),
            };
            let mut parts = Vec::new();
            for part in text.split('/') {
                match part {
                    "" | "." => {}
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            // The context itself is never kept out, nor is what lies outside of it.
            if parts.is_empty() {
                continue;
            }
            if patterns.len() == MAX_PATTERNS {
                return Err(format!(
                    "{file}:{line}: there are more than {MAX_PATTERNS} patterns"
                ));
            }
            let matcher = matcher(&parts.join("/")).map_err(|error| format!("{file}:{line}: {error}"))?;
            patterns.push(Pattern { line, again, matcher });
        }
        Ok(Self { file, patterns })
    }

    /// Where it says that `path`, below the context, is kept out: `FILE:LINE`.
    pub(super) fn keeps_out(&self, path: &Path) -> Option<String> {
        let mut out = None;
        for pattern in &self.patterns {
            // What lies in a folder goes with it.
            let matches = || {
                path.ancestors()
                    .filter(|path| !path.as_os_str().is_empty())
                    .any(|path| pattern.matcher.is_match(path))
            };
            if out.is_some() == pattern.again && matches() {
                out = (!pattern.again).then_some(pattern.line);
            }
        }
        out.map(|line| format!("{}:{line}", self.file))
    }

    /// Name of the file.
    pub(super) fn file(&self) -> &'static str {
        self.file
    }

    /// Whether something in a folder that is kept out may be let in.
    pub(super) fn lets_in_again(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_out(text: &str, path: &str) -> bool {
        let ignore = Ignore::parse(".kubeignore", text).unwrap();
        ignore.keeps_out(Path::new(path)).is_some()
    }

    #[test]
    fn patterns_mean_what_they_mean_to_docker() {
        for (text, path, out) in [
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/a/README.md", true),
            ("**/*.md", "README.md", true),
            ("/docs/", "docs/a", true),
            ("./docs/../charts", "charts", true),
            ("docs", "docs2", false),
            ("*/temp?", "a/temp1", true),
            ("*/temp?", "a/b/temp1", false),
            ("{a}", "{a}", true),
            ("# docs\n\n", "docs", false),
            ("docs\n!docs/keep", "docs/keep", false),
            ("docs\n!docs/keep", "docs/other", true),
            ("*\n!bin", "bin/kubeadm", false),
            ("!docs\ndocs", "docs", true),
            ("docs/**", "docs/a/b", true),
            (".", "x", false),
        ] {
            assert_eq!(kept_out(text, path), out, "{text:?} {path}");
        }
    }

    #[test]
    fn a_mistake_has_its_line() {
        let error = Ignore::parse(".kubeignore", "a\n[\n").unwrap_err();
        assert!(error.starts_with(".kubeignore:2: "), "{error}");
    }
}
