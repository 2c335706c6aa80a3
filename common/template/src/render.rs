//! This module owns [`render`] and its bounds.

use std::collections::BTreeMap;
use std::fmt;

use gotmpl::{Template, Value};

use crate::TemplateError;
use crate::blocks;
use crate::functions::with_functions;

/// Longest template, in bytes.
pub const MAX_TEMPLATE_LEN: usize = 1 << 20;
/// Longest result, in bytes.
pub const MAX_RENDERED_LEN: usize = 4 << 20;

/// Whether `text` is a template at all: its syntax, not its values.
///
/// # Errors
/// Where the first mistake is.
pub fn check(text: &str) -> Result<(), TemplateError> {
    // Most files that may be templates are plain text, and images have hundreds of them.
    if text.len() <= MAX_TEMPLATE_LEN && !text.contains("{{") {
        return Ok(());
    }
    parse(text).map(drop)
}

/// `text` with `values` in the places that name them. A name without a value gives `<no value>`, as in Go.
///
/// # Errors
/// Where the syntax is wrong; an unknown function; a result above [`MAX_RENDERED_LEN`].
pub fn render(text: &str, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let template = parse(text)?;
    let values = values
        .iter()
        .map(|(name, value)| (name.as_str().into(), Value::String(value.as_str().into())));
    execute(&template, &Value::Map(std::sync::Arc::new(values.collect())))
}

/// What a template makes of `values`, within the bound.
pub(crate) fn execute(template: &Template, values: &Value) -> Result<String, TemplateError> {
    let mut rendered = Bounded::default();
    let executed = template.execute_fmt(&mut rendered, values);
    if rendered.full {
        return Err(TemplateError::nowhere(format!(
            "its result is longer than {MAX_RENDERED_LEN} bytes"
        )));
    }
    executed?;
    Ok(rendered.text)
}

fn parse(text: &str) -> Result<Template, TemplateError> {
    parse_with(text, with_functions(Template::new("")))
}

/// `text` as a template that has the functions of `template`.
pub(crate) fn parse_with(text: &str, template: Template) -> Result<Template, TemplateError> {
    if text.len() > MAX_TEMPLATE_LEN {
        return Err(TemplateError::nowhere(format!(
            "it has {} bytes; at most {MAX_TEMPLATE_LEN} are allowed",
            text.len()
        )));
    }
    blocks::check(text)?;
    Ok(template.parse(text)?)
}

/// Text up to a bound.
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.text.len() + more.len() > MAX_RENDERED_LEN {
            self.full = true;
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        Ok(())
    }
}
