//! To and from a registry, beside skopeo.

use anyhow::Result;
use gantry_integration::registry::{Guard, Registry};

use super::archives::TO_ZSTD;
use super::image::ImageSite;
use crate::contender::Contender;
use crate::report::Report;
use crate::scripted::Scripted;
use crate::settings::Settings;

pub(crate) fn push(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    let store = site.folder("store");
    let registry = Registry::start(&site.folder("registry"), &Guard::default())?;
    let host = registry.host();
    let empty = format!("rm -rf {}", site.folder("registry/data/docker").display());
    let gone = format!("rm -f {}", store.join("store/origins.json").display());
    let proof = |repository: &str| {
        format!("skopeo inspect --tls-verify=false docker://{host}/{repository}:v1 >/dev/null")
    };
    let contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry push",
            operator,
            site.folder("gantry"),
            format!(
                "$GANTRY --root {} push --insecure bench:v1 {host}/gantry:v1",
                store.display()
            ),
        )
        .before(format!("{empty}\n{gone}"))
        .proof(proof("gantry"))
        .boxed(),
        Scripted::new(
            "skopeo copy",
            operator,
            site.folder("skopeo"),
            format!(
                "skopeo copy --quiet --dest-tls-verify=false oci:{}:bench:v1 docker://{host}/skopeo:v1",
                site.folder("layout").display()
            ),
        )
        .before(format!(
            "{empty}\nrm -rf /var/lib/containers/cache/blob-info-cache-v1.boltdb"
        ))
        .proof(proof("skopeo"))
        .boxed(),
    ];
    let note = "The same image, from memory, to Debian's docker-registry, which is empty before each round.";
    site.beside_skopeo(settings, contenders, note, report)
}

pub(crate) fn pull(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    let registry = Registry::start(&site.folder("registry"), &Guard::default())?;
    let host = registry.host();
    site.sh(&format!(
        "$GANTRY --root $OUT/store push --insecure bench:v1 {host}/bench:v1"
    ))?;
    let contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry pull",
            operator,
            site.folder("gantry"),
            format!("$GANTRY --root $OUT/gantry pull --insecure {host}/bench:v1"),
        )
        .proof("$GANTRY --root $OUT/gantry store check")
        .boxed(),
        Scripted::new(
            "skopeo copy",
            operator,
            site.folder("skopeo"),
            format!("skopeo copy --quiet --src-tls-verify=false docker://{host}/bench:v1 oci:$OUT/layout:v1"),
        )
        .proof("[ -e $OUT/layout/index.json ]")
        .boxed(),
    ];
    let note = "The same image, from Debian's docker-registry, into memory: a store, an OCI layout.";
    site.beside_skopeo(settings, contenders, note, report)
}

/// Pushes the image whose layer is gzip, with docker's media types, as `gzip:v1`.
fn push_gzip(site: &ImageSite, host: &str) -> Result<()> {
    let layout = site.gzip_layout()?;
    site.sh(&format!(
        "skopeo copy --quiet --format v2s2 --dest-tls-verify=false oci:{}:v1 docker://{host}/gzip:v1",
        layout.display()
    ))
}

pub(crate) fn pull_gzip(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    let registry = Registry::start(&site.folder("registry"), &Guard::default())?;
    let host = registry.host();
    push_gzip(&site, host)?;
    let skopeo = |name, folder: &str, flags: &str| {
        let job = format!(
            "skopeo copy --quiet {flags} --src-tls-verify=false docker://{host}/gzip:v1 oci:$OUT/layout:v1"
        );
        Scripted::new(name, operator, site.folder(folder), job)
            .proof("[ -e $OUT/layout/index.json ]")
            .boxed()
    };
    let contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry pull",
            operator,
            site.folder("gantry"),
            format!("$GANTRY --root $OUT/gantry pull --insecure {host}/gzip:v1"),
        )
        .proof("$GANTRY --root $OUT/gantry store check")
        .boxed(),
        skopeo("skopeo copy, to zstd", "skopeo-zstd", TO_ZSTD),
        skopeo("skopeo copy, as it is", "skopeo", ""),
    ];
    let note = "Into memory. Gantry keeps the gzip layer and makes zstd:chunked of it, for hosts; skopeo makes zstd of it in one \
                job, and leaves it as it is in the other.";
    site.beside("skopeo to zstd", 1.0, settings, contenders, note, report)
}

pub(crate) fn pull_unpack(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let registry = Registry::start(&site.folder("registry"), &Guard::default())?;
    let image = format!("{}/bench:v1", registry.host());
    site.sh(&format!(
        "$GANTRY --root $OUT/store push --insecure bench:v1 {image}"
    ))?;
    beside_podman(&site, settings, &image, 2.0, report)
}

pub(crate) fn pull_unpack_gzip(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let registry = Registry::start(&site.folder("registry"), &Guard::default())?;
    push_gzip(&site, registry.host())?;
    let image = format!("{}/gzip:v1", registry.host());
    beside_podman(&site, settings, &image, 1.0, report)
}

fn beside_podman(
    site: &ImageSite,
    settings: &Settings,
    image: &str,
    goal: f64,
    report: &mut Report,
) -> Result<()> {
    let operator = site.bed.operator();
    let contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry pull, inspect",
            operator,
            site.folder("gantry"),
            format!(
                "$GANTRY --root $OUT/gantry pull --insecure {image}\n\
                 $GANTRY --root $OUT/gantry inspect {image} >/dev/null"
            ),
        )
        .proof("find $OUT/gantry -path *bin/kubelet | grep --quiet .")
        .boxed(),
        Scripted::new(
            "podman pull",
            operator,
            site.folder("podman"),
            format!(
                "TMPDIR=$OUT podman --root $OUT/storage --runroot $OUT/run --storage-driver overlay \
                 pull --quiet --tls-verify=false {image} >/dev/null"
            ),
        )
        .proof("find $OUT/storage -path *bin/kubelet | grep --quiet .")
        .boxed(),
    ];
    let note = "The same bytes from Debian's docker-registry, into memory: a store with its layers unpacked, podman's storage.";
    site.beside("podman pull", goal, settings, contenders, note, report)
}
