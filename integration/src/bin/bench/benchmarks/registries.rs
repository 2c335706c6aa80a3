//! To and from a registry, beside skopeo.

use anyhow::Result;
use gantry_integration::registry::{Guard, Registry};

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
