//! Functions over numbers and versions.

use std::cmp::Ordering;

use gotmpl::{Template, Value};

use super::{Answer, error, map, string, text};

/// Longest list of numbers that a function makes.
const MAX_UNTIL: i64 = 100_000;

/// Makes one number of two.
type Fold = fn(i64, i64) -> i64;

/// Adds them.
pub(super) fn add(template: Template) -> Template {
    let mut template = template;
    let folds: [(&str, Fold); 5] = [
        ("add", i64::wrapping_add),
        ("sub", i64::wrapping_sub),
        ("mul", i64::wrapping_mul),
        ("max", i64::max),
        ("min", i64::min),
    ];
    for (name, fold) in folds {
        template = template.func(name, move |arguments| {
            Ok(Value::Int(arguments.iter().map(whole).reduce(fold).unwrap_or(0)))
        });
    }
    for name in ["int", "int64", "toDecimal"] {
        template = template.func(name, |a| Ok(Value::Int(a.first().map_or(0, whole))));
    }
    for (name, round) in [
        ("floor", f64::floor as fn(f64) -> f64),
        ("ceil", f64::ceil),
        ("round", f64::round),
    ] {
        template = template.func(name, move |a| {
            Ok(Value::Float(round(a.first().map_or(0.0, real))))
        });
    }
    template
        .func("float64", |a| Ok(Value::Float(a.first().map_or(0.0, real))))
        .func("atoi", |a| {
            Ok(Value::Int(text(a.first()).trim().parse().unwrap_or(0)))
        })
        .func("add1", |a| {
            Ok(Value::Int(a.first().map_or(0, whole).wrapping_add(1)))
        })
        .func("div", |a| divided(a, i64::checked_div))
        .func("mod", |a| divided(a, i64::checked_rem))
        .func("until", |a| numbers(0, a.first().map_or(0, whole), 1))
        .func("untilStep", |a| {
            let number = |at: usize| a.get(at).map_or(0, whole);
            numbers(number(0), number(1), number(2))
        })
        .func("semverCompare", |a| {
            Ok(Value::Bool(satisfies(&text(a.get(1)), &text(a.first()))))
        })
        .func("semver", |a| {
            let version = Version::of(&text(a.first()));
            Ok(map([
                ("Major", Value::Int(version.numbers[0])),
                ("Minor", Value::Int(version.numbers[1])),
                ("Patch", Value::Int(version.numbers[2])),
                ("Prerelease", string(version.prerelease)),
            ]))
        })
}

/// A whole number, as sprig casts.
pub(super) fn whole(value: &Value) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "as Go converts")]
    match value {
        Value::Bool(value) => i64::from(*value),
        Value::Float(number) => *number as i64,
        Value::String(text) => text.trim().parse().unwrap_or(0),
        other => other.as_int().unwrap_or(0),
    }
}

fn real(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.trim().parse().unwrap_or(0.0),
        other => other.as_float().unwrap_or(0.0),
    }
}

fn divided(arguments: &[Value], divide: fn(i64, i64) -> Option<i64>) -> Answer {
    let number = |at: usize| arguments.get(at).map_or(0, whole);
    match divide(number(0), number(1)) {
        Some(number) => Ok(Value::Int(number)),
        None => error("division by zero"),
    }
}

fn numbers(start: i64, end: i64, step: i64) -> Answer {
    let count = match step {
        0 => 0,
        step => end.saturating_sub(start).checked_div(step).unwrap_or(0),
    };
    if count > MAX_UNTIL {
        return error(format!("more than {MAX_UNTIL} numbers"));
    }
    let mut list = Vec::new();
    let mut at = start;
    while (step > 0 && at < end) || (step < 0 && at > end) {
        list.push(Value::Int(at));
        at = at.saturating_add(step);
    }
    Ok(Value::List(list.into()))
}

/// A version, as far as charts compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    numbers: [i64; 3],
    /// How many numbers were written; `x` and `*` are none.
    written: usize,
    prerelease: String,
}

impl Version {
    fn of(text: &str) -> Self {
        let text = text.trim().trim_start_matches('v');
        let text = text.split('+').next().unwrap_or_default();
        let (core, prerelease) = text.split_once('-').unwrap_or((text, ""));
        let mut version = Self {
            numbers: [0; 3],
            written: 0,
            prerelease: prerelease.to_owned(),
        };
        for part in core.split('.').take(3) {
            let Ok(number) = part.parse() else { break };
            version.numbers[version.written] = number;
            version.written += 1;
        }
        version
    }

    fn compare(&self, other: &Self) -> Ordering {
        let release = |version: &Self| version.prerelease.is_empty();
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| release(self).cmp(&release(other)))
            .then_with(|| self.prerelease.cmp(&other.prerelease))
    }
}

/// Whether a version is within the constraints of Masterminds' semver: alternatives by `||`, all of a list by commas or spaces.
fn satisfies(version: &str, constraints: &str) -> bool {
    let version = Version::of(version);
    constraints.split("||").any(|all| {
        let all = all.replace(',', " ");
        let mut words: Vec<String> = Vec::new();
        for word in all.split_whitespace() {
            match words.last_mut() {
                // `>= 1.19`: the operator stands apart.
                Some(last) if !last.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '*') => {
                    last.push_str(word);
                }
                _ => words.push(word.to_owned()),
            }
        }
        words.iter().all(|word| one(&version, word))
    })
}

fn one(version: &Version, constraint: &str) -> bool {
    let at = constraint
        .find(|c: char| c.is_ascii_alphanumeric() || c == '*')
        .unwrap_or(constraint.len());
    let (operator, wanted) = constraint.split_at(at);
    let wanted = Version::of(wanted);
    let order = version.compare(&wanted);
    let same = |count: usize| version.numbers[..count] == wanted.numbers[..count];
    match operator {
        ">=" | "=>" => order.is_ge(),
        "<=" | "=<" => order.is_le() || same(wanted.written.max(1)),
        ">" => order.is_gt(),
        "<" => order.is_lt(),
        "!=" => !same(wanted.written),
        "~" | "~>" => order.is_ge() && same(wanted.written.clamp(1, 2)),
        "^" => {
            let first = wanted.numbers.iter().position(|number| *number != 0).unwrap_or(0);
            order.is_ge() && same(first + 1)
        }
        _ => same(wanted.written) && (wanted.written < 3 || order.is_eq()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_charts_write_them() {
        for (version, constraints, answer) in [
            ("v1.20.2", ">=1.19-0", true),
            ("v1.20.2", ">= 1.19-0", true),
            ("v1.20.2", "<1.21-0", true),
            ("v1.20.2", ">=1.21-0 || ^1.20", true),
            ("1.20.2", "~1.20", true),
            ("1.20.2", "1.x", true),
            ("1.20.2", ">1.19, <1.20", false),
            ("2.0.0", "^1.20", false),
            ("1.20.2-gke.1", ">=1.20.2", false),
            ("1.20.2", "=1.20.2", true),
        ] {
            assert_eq!(satisfies(version, constraints), answer, "{version} {constraints}");
        }
    }
}
