//! `gantry run`: an image and hosts become a cluster, by a Clusterfile that is made of both and applied.

pub(super) mod default_clusterfile;
mod ranges;
mod same_cluster;

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{ClusterName, ExitCode, ImageReference};

use super::addresses::Addresses;
use super::apply::{self, ApplyArgs};
use super::connect;
use super::prepare::bring_in;
use crate::clusterfile::compose::{Choices, compose};
use crate::clusterfile::{Clusterfile, Mistakes, Source};
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::output::print;
use crate::state::State;
use ranges::RangeArgs;

/// Flags of `gantry run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry run kubernetes:v1.31.4 -m 10.0.0.2 -n 10.0.0.3-10.0.0.5
  gantry run kubernetes:v1.31.4 -m 10.0.0.2 -e PodCIDR=10.244.0.0/16
  gantry run shop:v7 -m 10.0.0.2 --name shop --apps web,db --app-env web:Replicas=3
  gantry run kubernetes:v1.31.4 -m 10.0.0.2-10.0.0.4 --print >Clusterfile    to edit it first

Keep the Clusterfile (--print) where something in it is secret or a Config: the copy in the state is
without. Hosts come and go later with `gantry join` and `gantry delete`; `gantry apply` does the
rest.")]
pub struct Args {
    /// The image, from the store
    #[arg(value_name = "IMAGE", required_unless_present = "file")]
    image: Option<String>,

    /// Control planes, the first one first: addresses, and ranges such as 10.0.0.2-10.0.0.4
    #[arg(short, long, value_name = "IPS", required_unless_present = "file")]
    masters: Option<Addresses>,

    /// Workers, in the same way
    #[arg(short, long, value_name = "IPS", requires = "masters")]
    nodes: Option<Addresses>,

    /// The cluster's name [default: the one in the Clusterfile, else my-cluster]
    #[arg(long, value_name = "NAME", visible_alias = "cluster-name")]
    name: Option<ClusterName>,

    /// Start from this Clusterfile, not from the image's [default: etc/Clusterfile of the image, else a plain one]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,

    /// A variable of the image's scripts on every host; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,

    /// The applications of the image that are launched, in order; '' for none [default: those that the image launches]
    #[arg(
        long = "apps",
        value_name = "NAMES",
        visible_alias = "app",
        value_delimiter = ','
    )]
    apps: Option<Vec<String>>,

    /// A variable of an application; may be given several times
    #[arg(long, value_name = "APP:NAME=VALUE", value_parser = application_variable)]
    app_env: Vec<(String, String)>,

    /// A command in the place of the image's, where the first master's agent allows it; may be given several times
    #[arg(
        long = "cmd",
        value_name = "COMMAND",
        visible_alias = "cmds",
        conflicts_with = "apps"
    )]
    commands: Vec<String>,

    /// A value that the image's commands name (ARG of its Kubefile); may be given several times
    #[arg(long = "cmd-arg", value_name = "NAME=VALUE", visible_alias = "cmd-args", value_parser = variable)]
    command_arguments: Vec<String>,

    /// Print the Clusterfile and do nothing else
    #[arg(long, visible_alias = "dry-run")]
    print: bool,

    #[command(flatten)]
    ranges: RangeArgs,

    #[command(flatten)]
    apply: ApplyArgs,
}

/// Makes the Clusterfile and applies it.
///
/// # Errors
/// When there is no such image or it has mistakes; when a cluster of this name has other hosts; see [`apply::run`].
pub fn run(mut args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    args.env.extend(args.ranges.variables());
    let choices = args.choices(context)?;
    let base = args.base(&choices, context)?;
    let source = if choices == Choices::default() {
        base
    } else {
        Source {
            text: compose(&base.file, &base.text, &choices).map_err(refused)?,
            // Its lines are no longer those of the file.
            file: format!("{} with this command line", base.file),
        }
    };
    let clusterfile = source.clusterfile()?;
    if args.print {
        print(&source.text)?;
        return Ok(ExitCode::Done);
    }
    let state = State::new(context.root());
    same_cluster::or_refuse(&state, &clusterfile)?;
    let name = clusterfile.name.clone();
    let has_secrets = source.without_secrets() != source.text;
    let code = apply::apply_composed(source, clusterfile, &args.apply, context)?;
    if code == ExitCode::Done {
        tell_where(&state, &name, has_secrets);
    }
    Ok(code)
}

impl Args {
    /// What the command line says.
    fn choices(&self, context: &Context) -> anyhow::Result<Choices> {
        let image = match &self.image {
            Some(text) => Some(image_name(text, context)?),
            None => None,
        };
        let hosts = |given: &Option<Addresses>| given.as_ref().map(|given| given.0.clone());
        let masters = hosts(&self.masters).unwrap_or_default();
        if masters.is_empty() && (self.masters.is_some() || self.file.is_none()) {
            let hint =
                "name control planes with -m and workers with -n, e.g. -m 10.0.0.2 -n 10.0.0.3-10.0.0.5";
            return Err(failure_hint(ExitCode::Input, "no master is named", hint));
        }
        let applications = self.apps.as_ref().map(|names| {
            let named = names.iter().filter(|name| !name.is_empty());
            named.cloned().collect()
        });
        Ok(Choices {
            image,
            name: self.name.clone(),
            masters,
            nodes: hosts(&self.nodes).unwrap_or_default(),
            env: self.env.clone(),
            command_arguments: self.command_arguments.clone(),
            commands: self.commands.clone(),
            applications,
            application_env: self.app_env.clone(),
        })
    }

    /// The Clusterfile to start from.
    fn base(&self, choices: &Choices, context: &Context) -> anyhow::Result<Source> {
        let Some(file) = &self.file else {
            let Some(image) = &choices.image else {
                unreachable!("an image is required where no file is given");
            };
            return default_clusterfile::of_image(image, &choices.env, context);
        };
        let source = Source::read(file, "-f")?;
        // Its own mistakes are shown in its own text.
        Clusterfile::parse(&source.file, &source.text).map_err(refused)?;
        source.refuse_masked()?;
        Ok(source)
    }
}

/// The name of the image that a person means by `text`: a name, or the first digits of its digest.
fn image_name(text: &str, context: &Context) -> anyhow::Result<ImageReference> {
    let store = connect::store(context)?;
    store.find_name(text).map_err(|error| {
        let (code, hint) = (error.exit_code(), bring_in(&text));
        let failed: Result<(), _> = Err(error).or_exit_hint(code, hint);
        failed.expect_err("it is an error")
    })
}

/// The error of a text with mistakes, which are printed.
fn refused(mistakes: Mistakes) -> anyhow::Error {
    anstream::eprint!("{}", mistakes.render(true));
    let failed: Result<(), _> = Err(mistakes).or_exit(ExitCode::Input);
    failed.expect_err("it is an error")
}

fn tell_where(state: &State, name: &ClusterName, has_secrets: bool) {
    let path = state.cluster(name).clusterfile();
    let path = path.display();
    if has_secrets {
        anstream::eprintln!(
            "Its Clusterfile is kept as {path}, without secrets and Configs: not to be applied. The same command with --print gives all of it."
        );
    } else {
        anstream::eprintln!(
            "Its Clusterfile is kept as {path}: `gantry join -f {path} -n IPS` adds hosts, for example."
        );
    }
}

pub(super) fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} has to be NAME=VALUE")),
    }
}

fn application_variable(text: &str) -> Result<(String, String), String> {
    let split = text.split_once(':');
    let (name, assigned) = split
        .filter(|(name, assigned)| !name.contains('=') && assigned.contains('='))
        .ok_or(format!("{text:?} has to be APP:NAME=VALUE, e.g. web:Replicas=3"))?;
    Ok((name.to_owned(), variable(assigned)?))
}
