//! The Clusterfile that an image brings.

use std::collections::BTreeMap;

use gantry_model::{ExitCode, ImageReference};
use gantry_store::{EntryKind, Rootfs};

use crate::clusterfile::compose::PLAIN;
use crate::clusterfile::{Source, tree};
use crate::commands::{connect, layer_error, store_error};
use crate::context::Context;
use crate::exit::{OrExit as _, failure, failure_hint};

/// Where it is. The second one is for images whose `etc/` is all templates.
const PATHS: [&str; 2] = ["etc/Clusterfile", "etc/Clusterfile.tmpl"];
/// What stands for an action of a template while its variables are read: by itself, most templates are no YAML.
const ACTION: &str = "\u{fffd}";
/// What Go makes of a name that has no value.
const NO_VALUE: &str = "<no value>";

/// The Clusterfile of `image` for this machine's platform; a plain one where it has none. A template is rendered with
/// `env` over its own `spec.env`.
///
/// # Errors
/// When there is no such image, it is damaged, or what it brings is too long, no text or no template.
pub(in crate::commands) fn of_image(
    image: &ImageReference,
    env: &[String],
    context: &Context,
) -> anyhow::Result<Source> {
    let store = connect::store(context)?;
    let _nothing_vanishes = store.share().map_err(store_error)?;
    let stored = store.image(image).map_err(store_error)?;
    let rootfs = Rootfs::read(&store, &stored).map_err(layer_error)?;
    let Some(path) = PATHS.iter().find_map(|path| rootfs.resolve(path)) else {
        return Ok(Source {
            file: format!("Clusterfile for {image}"),
            text: PLAIN.to_owned(),
        });
    };
    let file = format!("{path} of {image}");
    let is_long = match rootfs.get(&path).map(|entry| &entry.kind) {
        Some(EntryKind::File { size, .. }) => *size > tree::MAX_LEN as u64,
        _ => return Err(failure(ExitCode::Input, format!("{file} is no file"))),
    };
    let start_elsewhere = "start from another one with -f FILE";
    if is_long {
        let message = format!("{file} is longer than {} KiB", tree::MAX_LEN >> 10);
        return Err(failure_hint(ExitCode::Input, message, start_elsewhere));
    }
    let mut bytes = Vec::new();
    rootfs.copy_file(&path, &mut bytes).map_err(layer_error)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| anyhow::anyhow!("{file} is not UTF-8 text"))
        .or_exit_hint(ExitCode::Input, start_elsewhere)?;
    let text = rendered(&file, text, env)?;
    Ok(Source { file, text })
}

/// A Clusterfile that is a template, as sealer 0.7 and 0.8 have them, with its own variables and `env` in it.
fn rendered(file: &str, text: String, env: &[String]) -> anyhow::Result<String> {
    if !text.contains("{{") {
        return Ok(text);
    }
    let mut values = BTreeMap::new();
    let (documents, _) = tree::parse(&without_actions(&text));
    let own = documents
        .iter()
        .filter_map(|document| document.get("spec")?.get("env"));
    let own = own.flat_map(tree::Node::items).filter_map(tree::Node::text);
    let own = own.filter(|variable| !variable.contains(ACTION));
    for variable in own.chain(env.iter().map(String::as_str)) {
        if let Some((name, value)) = variable.split_once('=') {
            values.insert(name.to_owned(), value.to_owned());
        }
    }
    let rendered = gantry_template::render(&text, &values)
        .map_err(|error| anyhow::anyhow!("{file} is a template with a mistake: {error}"))
        .or_exit_hint(ExitCode::Input, "start from another one with -f FILE")?;
    let line = rendered.lines().position(|line| line.contains(NO_VALUE));
    match line {
        None => Ok(rendered),
        Some(line) => Err(failure_hint(
            ExitCode::Input,
            format!(
                "{file} is a template, and line {} of what it gives names a variable that has no value",
                line + 1
            ),
            "give it one with -e NAME=VALUE; `gantry cat IMAGE etc/Clusterfile` shows the template",
        )),
    }
}

fn without_actions(text: &str) -> String {
    let mut left = String::new();
    let mut rest = text;
    while let Some((before, action)) = rest.split_once("{{") {
        left.push_str(before);
        left.push_str(ACTION);
        rest = action.split_once("}}").map_or("", |(_, after)| after);
    }
    left.push_str(rest);
    left
}
