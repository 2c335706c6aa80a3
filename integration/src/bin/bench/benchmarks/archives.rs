//! To and from OCI archives, beside skopeo.

use anyhow::Result;

use super::image::ImageSite;
use crate::contender::Contender;
use crate::report::Report;
use crate::scripted::Scripted;
use crate::settings::Settings;

pub(crate) fn save(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    let whole = "[ $(tar --list --file $OUT/image.tar | grep --count blobs/sha256/.) -gt 2 ]";
    let contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry save",
            operator,
            site.folder("gantry"),
            format!(
                "$GANTRY --root {} save -o $OUT/image.tar bench:v1",
                site.folder("store").display()
            ),
        )
        .proof(whole)
        .boxed(),
        Scripted::new(
            "skopeo copy",
            operator,
            site.folder("skopeo"),
            format!(
                "TMPDIR=$OUT skopeo copy --quiet oci:{}:bench:v1 oci-archive:$OUT/image.tar:v1",
                site.folder("layout").display()
            ),
        )
        .proof(whole)
        .boxed(),
    ];
    let note = "The same image, from memory into memory.";
    site.beside_skopeo(settings, contenders, note, report)
}

pub(crate) fn load(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    site.sh("$GANTRY --root $OUT/store save -o $OUT/image.tar bench:v1")?;
    let archive = site.folder("image.tar");
    let archive = archive.display();
    let contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry load",
            operator,
            site.folder("gantry"),
            format!("$GANTRY --root $OUT/gantry load {archive}"),
        )
        .proof("$GANTRY --root $OUT/gantry store check")
        .boxed(),
        Scripted::new(
            "skopeo copy",
            operator,
            site.folder("skopeo"),
            format!("TMPDIR=$OUT skopeo copy --quiet oci-archive:{archive} oci:$OUT/layout:v1"),
        )
        .proof("[ -e $OUT/layout/index.json ]")
        .boxed(),
    ];
    let note = "The same archive, from memory into memory: a store, an OCI layout.";
    site.beside_skopeo(settings, contenders, note, report)
}
