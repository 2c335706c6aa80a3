//! `gantry check`: whether an image has every container image that its files name, and whether its scripts ask for more.

mod rehearsal;

use gantry_model::ExitCode;
use gantry_store::{ContainerImage, Platform, Rootfs, Store};
use serde_json::json;

use super::rootfs::PlatformArgs;
use crate::build::add_kubeadm_images;
use crate::completeness::{IgnoredImages, RegistryContents, Report, TemplateValues, scan};
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::output;
use crate::output::{OutputFormat, Table};

/// Places shown of one image that is missing.
const MAX_PLACES_SHOWN: usize = 3;

/// Flags of `gantry check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is looked at: manifests/, charts/ and application/apps/ (templates and charts as the
image's own values make them), lists in imageList, and what the image's kubeadm says, which is
asked as nobody in a sandbox that has no network and nothing of this machine, and not at all where
this machine's policy refuses the image.
Exit status 6: something is missing or damaged, or a script needs a network; with --strict also
when something cannot be told.

--rehearse runs scripts that somebody else wrote, as root: init.sh (or docker.sh or containerd.sh,
and init-kube.sh), init-registry.sh, what the image launches (CMD, LAUNCH), and clean.sh. They
see this machine's /usr and /etc, and keep to themselves what they write there; they see none of
its other files, processes, sockets and disks, and no network. Every name they ask for gets an
address, every connection is refused at once; both are listed with the line that did it.
systemctl, and what changes the kernel, is stood in for: services are not started, so what they
do is not seen. Where a script fails, the rest of it is not known.

Examples:
  gantry check kubernetes:v1.31.4
  sudo gantry check kubernetes:v1.31.4 --rehearse
  sudo gantry check shop:v7 --rehearse --strict --script-timeout 10m -e Zone=a
  sudo gantry check shop:v7 --rehearse -f Clusterfile  as its env, cmd_args and applications want it
  gantry check shop:v7 --ignored-image-list absent.txt
  gantry check shop:v7 -o json | jq -r '.missing[].image'")]
pub struct Args {
    /// Name or id of the image
    image: String,

    #[command(flatten)]
    platform: PlatformArgs,

    #[command(flatten)]
    rehearsal: rehearsal::RehearsalArgs,

    #[command(flatten)]
    ignored: super::image_lists::IgnoredArgs,

    /// Take what cannot be told for missing
    #[arg(long)]
    strict: bool,

    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,
}

/// Runs `gantry check`.
///
/// # Errors
/// When there is no such image, it is damaged, something is missing in it, or its scripts need a network.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let ignored = args.ignored.read()?;
    let store = super::connect::store(context)?;
    let _nothing_vanishes = store.share().map_err(super::store_error)?;
    let image = args.platform.find(&store, &args.image)?;
    let rootfs = Rootfs::read(&store, &image).map_err(super::layer_error)?;
    let platform = Platform {
        os: image.config.os.clone(),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone(),
    };
    let extension = image.extension().map_err(super::store_error)?;
    let values = TemplateValues::new(&image.env(), extension.as_ref());
    let names = image.container_images().map_err(super::store_error)?;
    let name = store.find_name(&args.image).map_err(super::store_error)?;
    let refusal = || store.accepted(&name, &image).err().map(|error| error.to_string());
    let kubeadm_of = KubeadmOf {
        store: &store,
        platform: &platform,
        refusal: &refusal,
    };
    let report = look(&rootfs, &values, &names, &ignored, &kubeadm_of)?;
    let rehearsed = args.rehearsal.run(&store, &image, &name, &rootfs, context)?;
    match args.output {
        OutputFormat::Table => {
            let rehearsed = rehearsed.as_ref().map(rehearsal::text).unwrap_or_default();
            output::print(&format!("{}{rehearsed}", text(&report)))?;
        }
        OutputFormat::Json => {
            let mut document = document(&report);
            if let Some(outcome) = &rehearsed {
                if !outcome.findings.is_empty() {
                    document["complete"] = json!(false);
                } else if !outcome.doubts.is_empty() && report.is_complete() {
                    document["complete"] = json!(null);
                }
                document["rehearsal"] = rehearsal::document(outcome);
            }
            output::print_json(&document)?;
        }
    }
    if !report.is_complete() {
        return Err(failure_hint(
            ExitCode::Verification,
            format!(
                "image {} is not complete: {} not inside, {} damaged",
                args.image,
                count(report.missing.len(), "container image"),
                report.flaws.len(),
            ),
            "build it again where these images can be had: `gantry build --help` says from where they are taken; \
             what hosts have from elsewhere goes into a file for --ignored-image-list",
        ));
    }
    let outcome = rehearsed.unwrap_or_default();
    if !outcome.findings.is_empty() {
        return Err(failure_hint(
            ExitCode::Verification,
            format!(
                "image {} is not complete: its scripts asked a network for {}",
                args.image,
                count(outcome.findings.len(), "thing")
            ),
            "bring what they fetch in the image, with COPY, and let them take it from there",
        ));
    }
    let doubts = report.doubts.len() + outcome.doubts.len();
    if doubts > 0 && args.strict {
        return Err(failure_hint(
            ExitCode::Verification,
            format!(
                "whether image {} is complete is not known: {} could not be told",
                args.image,
                count(doubts, "thing")
            ),
            "look at the list; without --strict it counts for nothing",
        ));
    }
    Ok(ExitCode::Done)
}

/// What it takes to ask an image's kubeadm.
struct KubeadmOf<'a> {
    store: &'a Store,
    platform: &'a Platform,
    /// Why this machine's policy refuses the image.
    refusal: &'a dyn Fn() -> Option<String>,
}

fn look(
    rootfs: &Rootfs,
    values: &TemplateValues,
    names: &[ContainerImage],
    ignored: &IgnoredImages,
    kubeadm_of: &KubeadmOf<'_>,
) -> anyhow::Result<Report> {
    let KubeadmOf {
        store,
        platform,
        refusal,
    } = *kubeadm_of;
    let scan = scan(rootfs, values).map_err(super::layer_error)?;
    if let Some(mistakes) = scan.mistakes.into_iter().next() {
        anstream::eprint!("{}", mistakes.render(true));
        return Err(mistakes).or_exit(ExitCode::Verification);
    }
    let mut references = scan.references;
    let contents = RegistryContents::read(rootfs).map_err(super::layer_error)?;
    let contents = contents.with_names(names.iter().map(|image| image.image.as_str()));
    add_kubeadm_images(
        store,
        rootfs,
        values,
        platform,
        refusal,
        &contents,
        &mut references,
    )?;
    let references = references.without(|image| ignored.contains(image));
    Report::of(&references, &contents, platform).map_err(super::layer_error)
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} named, registry/ has {}\n",
        count(report.named, "container image"),
        count(report.inside, "tag")
    );
    if !report.missing.is_empty() {
        let mut table = Table::new(["NOT INSIDE", "NAMED IN"]);
        for missing in &report.missing {
            let mut places: Vec<String> = missing.places.iter().map(ToString::to_string).collect();
            if places.len() > MAX_PLACES_SHOWN {
                let more = places.len() - MAX_PLACES_SHOWN;
                places.truncate(MAX_PLACES_SHOWN);
                places.push(format!("{more} more"));
            }
            let similar = missing.similar.as_ref();
            let similar = similar.map_or(String::new(), |similar| format!(" (registry/ has {similar})"));
            table.row([
                missing.image.to_string(),
                format!("{}{similar}", places.join(", ")),
            ]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    if !report.flaws.is_empty() {
        let mut table = Table::new(["DAMAGED", "WHAT IS WRONG"]);
        for flaw in &report.flaws {
            table.row([flaw.image.clone(), flaw.reason.clone()]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    if !report.doubts.is_empty() {
        let mut table = Table::new(["NOT KNOWN", "WHY"]);
        for doubt in &report.doubts {
            table.row([doubt.place.to_string(), doubt.reason.clone()]);
        }
        text.push_str(&format!("\n{}", table.render()));
        text.push_str(
            "\nWhat is not known may name more container images. Look at it before you rely on this image.\n",
        );
    }
    text
}

fn document(report: &Report) -> serde_json::Value {
    let place = |place: &crate::completeness::Place| json!({ "file": place.file, "line": place.line });
    json!({
        "complete": if report.is_complete() && !report.doubts.is_empty() { json!(null) } else { json!(report.is_complete()) },
        "named": report.named,
        "inside": report.inside,
        "missing": report.missing.iter().map(|missing| json!({
            "image": missing.image.to_string(),
            "places": missing.places.iter().map(place).collect::<Vec<_>>(),
            "similar": missing.similar,
        })).collect::<Vec<_>>(),
        "damaged": report.flaws.iter().map(|flaw| json!({ "image": flaw.image, "reason": flaw.reason })).collect::<Vec<_>>(),
        "notKnown": report.doubts.iter().map(|doubt| json!({
            "place": place(&doubt.place), "reason": doubt.reason,
        })).collect::<Vec<_>>(),
    })
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
