//! Every `NAME.yaml` below `clusterfile_errors/` gives exactly the messages in `NAME.txt` beside it.
//!
//! `GANTRY_WRITE_EXPECTED=1 cargo test` writes them anew; read the difference before you keep it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use gantry::clusterfile::Clusterfile;

#[test]
fn every_wrong_clusterfile_gets_its_messages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clusterfile_errors");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    names.sort();
    let mut wrong = Vec::new();
    for path in names {
        let text = fs::read_to_string(&path).unwrap();
        let found = match Clusterfile::parse("Clusterfile", &text) {
            Ok((_, notes)) => format!("accepted\n{}\n", notes.join("\n")),
            Err(mistakes) => format!("{}error: {mistakes}\n", mistakes.render(false)),
        };
        let expected = path.with_extension("txt");
        if std::env::var_os("GANTRY_WRITE_EXPECTED").is_some() {
            fs::write(&expected, &found).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
