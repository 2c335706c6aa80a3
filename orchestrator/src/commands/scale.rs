//! `gantry join` and `gantry delete`: hosts come into a cluster or leave it, by an edit of its Clusterfile that is applied.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::ExitCode;
use gantry_system::files::write_atomically;

use super::addresses::Addresses;
use super::apply::{self, ApplyArgs};
use super::reset;
use crate::clusterfile::edit::{self, Change, EditError};
use crate::clusterfile::{Role, Source};
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};

/// Flags of `gantry join`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gantry join -n 10.0.0.7,10.0.0.8      two more workers\n  \
                        gantry join -m 10.0.0.3-10.0.0.4       two more control planes"
)]
pub struct JoinArgs {
    #[command(flatten)]
    hosts: HostArgs,

    #[command(flatten)]
    apply: ApplyArgs,
}

/// Flags of `gantry delete`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gantry delete -n 10.0.0.7              a worker leaves and is given back as it was\n  \
                        gantry delete -n 10.0.0.7 --force      a worker that does not answer is forgotten by the cluster\n  \
                        gantry delete --all                    the same as gantry reset"
)]
pub struct DeleteArgs {
    #[command(flatten)]
    hosts: HostArgs,

    /// Take the whole cluster down, as `gantry reset` does
    #[arg(short, long, conflicts_with_all = ["masters", "nodes"])]
    all: bool,

    #[command(flatten)]
    apply: ApplyArgs,
}

#[derive(Debug, clap::Args)]
struct HostArgs {
    /// Clusterfile of the cluster; it is edited, its comments and layout stay
    #[arg(short, long, value_name = "FILE", default_value = "Clusterfile", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Control planes: addresses, and ranges such as 10.0.0.3-10.0.0.5
    #[arg(
        short,
        long,
        value_name = "IPS",
        default_value = "",
        hide_default_value = true
    )]
    masters: Addresses,

    /// Workers, in the same way
    #[arg(
        short,
        long,
        value_name = "IPS",
        default_value = "",
        hide_default_value = true
    )]
    nodes: Addresses,
}

type Edit = fn(&str, Role, &[IpAddr]) -> Result<(String, Vec<Change>), EditError>;

/// Adds hosts to the Clusterfile and applies it.
///
/// # Errors
/// When the file cannot be edited; see [`apply::run`].
pub fn join(args: JoinArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let source = args.hosts.edit(edit::add, '+')?;
    apply::apply_edited(source, &args.hosts.file, &args.apply, context)
}

/// Takes hosts out of the Clusterfile and applies it.
///
/// # Errors
/// When the file cannot be edited; see [`apply::run`].
pub fn delete(args: DeleteArgs, context: &Context) -> anyhow::Result<ExitCode> {
    if args.all {
        return reset::run(reset::Args::whole(args.hosts.file, args.apply), context);
    }
    let source = args.hosts.edit(edit::remove, '-')?;
    apply::apply_edited(source, &args.hosts.file, &args.apply, context)
}

impl HostArgs {
    /// The edited file, which is not written yet; what changes is said.
    fn edit(&self, edit: Edit, sign: char) -> anyhow::Result<Source> {
        if self.file.as_os_str() == "-" {
            let hint = "write it to a file, and name that with -f";
            return Err(failure_hint(
                ExitCode::Input,
                "standard input cannot be edited",
                hint,
            ));
        }
        let mut source = Source::read(&self.file, "-f")?;
        source.clusterfile()?;
        source.refuse_masked()?;
        let of_roles = [(Role::Master, &self.masters.0), (Role::Node, &self.nodes.0)];
        if of_roles.iter().all(|(_, addresses)| addresses.is_empty()) {
            let hint = "name control planes with -m and workers with -n, e.g. -n 10.0.0.7";
            return Err(failure_hint(ExitCode::Input, "no host is named", hint));
        }
        for (role, addresses) in of_roles
            .into_iter()
            .filter(|(_, addresses)| !addresses.is_empty())
        {
            let (text, changes) = edit(&source.text, role, addresses).map_err(|error| {
                let hint = match error {
                    EditError::NoMaster => "`gantry reset` takes the whole cluster down",
                    EditError::Present(_) | EditError::Absent { .. } => {
                        "the file says which hosts are in the cluster; `gantry apply` makes it so"
                    }
                    EditError::NoHosts | EditError::NoImage | EditError::Unusual | EditError::Mistaken(_) => {
                        "edit its hosts by hand, then `gantry apply`"
                    }
                };
                failure_hint(
                    ExitCode::Input,
                    format!("{} is not changed: {error}", source.file),
                    hint,
                )
            })?;
            source.text = text;
            for Change { address, line } in changes {
                let role = if role == Role::Master { "master" } else { "node" };
                anstream::eprintln!("{}:{line}: {sign} {address} ({role})", source.file);
            }
        }
        // Lines of messages are those of the edited text, which may never be written.
        source.file = format!("{} as edited (the file is not changed)", source.file);
        Ok(source)
    }
}

/// Writes an edited Clusterfile to where it was read from, with the rights it had.
///
/// # Errors
/// When it was changed by somebody else meanwhile, or cannot be written.
pub(super) fn write(source: &Source, path: &Path) -> anyhow::Result<()> {
    // A link stays one, to the file it leads to.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&path).map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
    write_atomically(&path, source.text.as_bytes(), mode)
        .with_context(|| format!("cannot write {}", path.display()))
        .or_exit(ExitCode::Failed)
}
