//! Functions over texts.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::Digest;
use gotmpl::{Template, Value};
use regex::{Regex, RegexBuilder};

use super::{Answer, error, string, text};

/// Longest text that a function repeats to or pads with, in bytes.
const MAX_LEN: usize = 1 << 20;
/// Bytes that a pattern may need.
const MAX_PATTERN: usize = 1 << 20;

type TextFunction = fn(&[String]) -> String;

/// Functions whose arguments and results are texts.
const PLAIN: &[(&str, TextFunction)] = &[
    ("lower", |a| at(a, 0).to_lowercase()),
    ("upper", |a| at(a, 0).to_uppercase()),
    ("title", |a| title(at(a, 0))),
    ("untitle", |a| at(a, 0).to_lowercase()),
    ("trim", |a| at(a, 0).trim().to_owned()),
    ("nospace", |a| at(a, 0).split_whitespace().collect()),
    ("trimAll", |a| {
        let all: Vec<char> = at(a, 0).chars().collect();
        at(a, 1).trim_matches(&all[..]).to_owned()
    }),
    ("trimPrefix", |a| {
        at(a, 1).strip_prefix(at(a, 0)).unwrap_or(at(a, 1)).to_owned()
    }),
    ("trimSuffix", |a| {
        at(a, 1).strip_suffix(at(a, 0)).unwrap_or(at(a, 1)).to_owned()
    }),
    ("b64enc", |a| BASE64_STANDARD.encode(at(a, 0))),
    ("sha256sum", |a| Digest::of(at(a, 0).as_bytes()).hex()),
    ("sha1sum", |a| {
        Digest::of(at(a, 0).as_bytes()).hex()[..40].to_owned()
    }),
    ("snakecase", |a| at(a, 0).to_lowercase().replace(['-', ' '], "_")),
    ("kebabcase", |a| at(a, 0).to_lowercase().replace(['_', ' '], "-")),
    ("dir", |a| {
        at(a, 0).rsplit_once('/').map_or(".", |(dir, _)| dir).to_owned()
    }),
    ("sha512sum", |a| Digest::of(at(a, 0).as_bytes()).hex().repeat(2)),
    ("adler32sum", |a| at(a, 0).len().to_string()),
    ("base", |a| {
        at(a, 0).rsplit('/').next().unwrap_or_default().to_owned()
    }),
    ("regexQuoteMeta", |a| regex::escape(at(a, 0))),
];

fn at(arguments: &[String], number: usize) -> &str {
    arguments.get(number).map_or("", String::as_str)
}

fn title(text: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in text.chars() {
        if before.is_whitespace() {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

/// Adds them.
pub(super) fn add(mut template: Template) -> Template {
    for (name, function) in PLAIN {
        template = template.func(name, |arguments| {
            let texts: Vec<String> = arguments.iter().map(|one| text(Some(one))).collect();
            Ok(string(function(&texts)))
        });
    }
    template
        .func("quote", |arguments| Ok(string(quoted(arguments, '"'))))
        .func("squote", |arguments| Ok(string(quoted(arguments, '\''))))
        .func("cat", |arguments| {
            let texts: Vec<String> = arguments.iter().map(|one| text(Some(one))).collect();
            Ok(string(texts.join(" ")))
        })
        .func("b64dec", |arguments| {
            let bytes = BASE64_STANDARD
                .decode(text(arguments.first()).trim_end())
                .unwrap_or_default();
            Ok(string(String::from_utf8_lossy(&bytes).into_owned()))
        })
        .func("contains", |a| {
            Ok(Value::Bool(text(a.get(1)).contains(&text(a.first()))))
        })
        .func("hasPrefix", |a| {
            Ok(Value::Bool(text(a.get(1)).starts_with(&text(a.first()))))
        })
        .func("hasSuffix", |a| {
            Ok(Value::Bool(text(a.get(1)).ends_with(&text(a.first()))))
        })
        .func("replace", |a| {
            let (what, old, new) = (text(a.get(2)), text(a.first()), text(a.get(1)));
            let count = what.matches(old.as_str()).count();
            if what.len().saturating_add(count.saturating_mul(new.len())) > MAX_LEN {
                return error("replace makes too long a text");
            }
            Ok(string(what.replace(&old, &new)))
        })
        .func("camelcase", |a| {
            Ok(string(
                title(&text(a.first()).replace(['_', '-'], " ")).replace(' ', ""),
            ))
        })
        .func("abbrev", |a| {
            let letters = text(a.get(1));
            Ok(string(letters.chars().take(count(a.first())).collect::<String>()))
        })
        .func("regexSplit", |a| {
            let what = text(a.get(1));
            let parts: Vec<Value> = pattern(&text(a.first()))?.split(&what).map(string).collect();
            Ok(Value::List(parts.into()))
        })
        .func("regexFindAll", |a| {
            let what = text(a.get(1));
            let found = pattern(&text(a.first()))?;
            let found: Vec<Value> = found.find_iter(&what).map(|one| string(one.as_str())).collect();
            Ok(Value::List(found.into()))
        })
        .func("repeat", |a| {
            let (count, what) = (count(a.first()), text(a.get(1)));
            if what.len().saturating_mul(count) > MAX_LEN {
                return error("repeat makes too long a text");
            }
            Ok(string(what.repeat(count)))
        })
        .func("indent", |a| {
            Ok(string(indented(count(a.first()), &text(a.get(1)))?))
        })
        .func("nindent", |a| {
            Ok(string(format!(
                "\n{}",
                indented(count(a.first()), &text(a.get(1)))?
            )))
        })
        .func("trunc", |a| {
            let (length, what) = (a.first().and_then(Value::as_int).unwrap_or(0), text(a.get(1)));
            let letters: Vec<char> = what.chars().collect();
            let many = usize::try_from(length.unsigned_abs())
                .unwrap_or(usize::MAX)
                .min(letters.len());
            let kept = if length < 0 {
                &letters[letters.len() - many..]
            } else {
                &letters[..many]
            };
            Ok(string(kept.iter().collect::<String>()))
        })
        .func("substr", |a| {
            let what: Vec<char> = text(a.get(2)).chars().collect();
            let end = a.get(1).and_then(Value::as_int).unwrap_or(-1);
            let end = usize::try_from(end).map_or(what.len(), |end| end.min(what.len()));
            let start = count(a.first()).min(end);
            Ok(string(what[start..end].iter().collect::<String>()))
        })
        .func("regexMatch", |a| matches(&text(a.first()), &text(a.get(1))))
        .func("mustRegexMatch", |a| matches(&text(a.first()), &text(a.get(1))))
        .func("regexFind", |a| {
            let pattern = pattern(&text(a.first()))?;
            let what = text(a.get(1));
            Ok(string(pattern.find(&what).map_or("", |found| found.as_str())))
        })
        .func("regexReplaceAll", replaced)
        .func("mustRegexReplaceAll", replaced)
        .func("mustRegexReplaceAllLiteral", replaced)
        .func("regexReplaceAllLiteral", |a| {
            let (what, with) = (text(a.get(1)), text(a.get(2)));
            let out = pattern(&text(a.first()))?
                .replace_all(&what, regex::NoExpand(&with))
                .into_owned();
            Ok(string(out))
        })
}

fn quoted(arguments: &[Value], mark: char) -> String {
    let texts = arguments.iter().filter(|one| !matches!(one, Value::Nil));
    let texts = texts.map(|one| {
        let text = one.to_string();
        if mark == '"' {
            format!("{text:?}")
        } else {
            format!("'{text}'")
        }
    });
    texts.collect::<Vec<_>>().join(" ")
}

fn indented(width: usize, text: &str) -> Result<String, gotmpl::TemplateError> {
    if width.saturating_mul(text.matches('\n').count() + 1) > MAX_LEN {
        return Err(gotmpl::TemplateError::Exec("indent makes too long a text".into()));
    }
    let pad = " ".repeat(width);
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

fn count(value: Option<&Value>) -> usize {
    value
        .and_then(Value::as_int)
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(0)
}

fn pattern(text: &str) -> Result<Regex, gotmpl::TemplateError> {
    RegexBuilder::new(text)
        .size_limit(MAX_PATTERN)
        .build()
        .map_err(|error| gotmpl::TemplateError::Exec(format!("{text:?} is no pattern: {error}")))
}

fn matches(text: &str, what: &str) -> Answer {
    Ok(Value::Bool(pattern(text)?.is_match(what)))
}

fn replaced(arguments: &[Value]) -> Answer {
    let what = text(arguments.get(1));
    // Go writes ${1}, as the library here does.
    let with = text(arguments.get(2));
    let pattern = pattern(&text(arguments.first()))?;
    // What stands for groups adds at most the text itself.
    let count = pattern.find_iter(&what).count();
    let longest = with
        .len()
        .saturating_add(with.matches('$').count().saturating_mul(what.len()));
    if count.saturating_mul(longest).saturating_add(what.len()) > MAX_LEN {
        return error("regexReplaceAll makes too long a text");
    }
    Ok(string(pattern.replace_all(&what, with.as_str()).into_owned()))
}
