//! The two functions that templates of ClusterImages have besides Go's own.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gotmpl::{Template, TemplateError, Value};

/// `template` with `b64enc` and `b64dec`.
pub(crate) fn with_functions(template: Template) -> Template {
    template
        .func("b64enc", |arguments| {
            let text = one("b64enc", arguments)?;
            Ok(Value::String(BASE64_STANDARD.encode(text).into()))
        })
        .func("b64dec", |arguments| {
            let text = one("b64dec", arguments)?;
            let bytes = BASE64_STANDARD
                .decode(text.trim_end())
                .map_err(|error| TemplateError::Exec(format!("b64dec: {error}")))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| TemplateError::Exec("b64dec: what it decodes to is not UTF-8".into()))?;
            Ok(Value::String(text.into()))
        })
}

fn one(name: &str, arguments: &[Value]) -> Result<String, TemplateError> {
    match arguments {
        [value] => Ok(value.to_string()),
        _ => Err(TemplateError::Exec(format!(
            "{name} takes one argument, {} were given",
            arguments.len()
        ))),
    }
}
