//! To and from OCI archives, beside skopeo.

use anyhow::Result;

use super::image::ImageSite;
use crate::contender::Contender;
use crate::report::Report;
use crate::scripted::Scripted;
use crate::settings::Settings;

/// Flags by which skopeo compresses anew, as Gantry does. Its zstd:chunked hangs (skopeo 1.9).
pub(crate) const TO_ZSTD: &str = "--dest-compress-format zstd";

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

pub(crate) fn load_gzip(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    let layout = site.gzip_layout()?;
    site.sh(&format!(
        "TMPDIR=$OUT skopeo copy --quiet oci:{}:v1 oci-archive:$OUT/image.tar:v1",
        layout.display()
    ))?;
    let archive = site.folder("image.tar");
    let archive = archive.display();
    let skopeo = |name, folder: &str, flags: &str| {
        let job = format!("TMPDIR=$OUT skopeo copy --quiet {flags} oci-archive:{archive} oci:$OUT/layout:v1");
        Scripted::new(name, operator, site.folder(folder), job)
            .proof("[ -e $OUT/layout/index.json ]")
            .boxed()
    };
    let contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry load",
            operator,
            site.folder("gantry"),
            format!("$GANTRY --root $OUT/gantry load -t bench:v1 {archive}"),
        )
        .proof("$GANTRY --root $OUT/gantry store check")
        .boxed(),
        skopeo("skopeo copy, to zstd", "skopeo-zstd", TO_ZSTD),
        skopeo("skopeo copy, as it is", "skopeo", ""),
    ];
    let note = "From memory into memory. Gantry keeps the gzip layer and makes zstd:chunked of it, for hosts; skopeo makes zstd of it \
                in one job, and leaves it as it is in the other.";
    site.beside("skopeo to zstd", 1.0, settings, contenders, note, report)
}
