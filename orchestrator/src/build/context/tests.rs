//! What is found in a context, and what is said about what is not.

use super::*;

fn context() -> (tempfile::TempDir, BuildContext) {
    let dir = tempfile::tempdir().unwrap();
    for path in ["bin", "etc", "charts/web"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    for path in [
        "etc/daemon.json",
        "etc/kubelet.service",
        "bin/kubeadm",
        "charts/web/Chart.yaml",
        "a[1].txt",
    ] {
        fs::write(dir.path().join(path), path).unwrap();
    }
    let context = BuildContext::open(dir.path()).unwrap();
    (dir, context)
}

fn names(context: &BuildContext, source: &str) -> Vec<String> {
    context
        .find(source)
        .unwrap()
        .into_iter()
        .map(|found| found.name)
        .collect()
}

#[test]
fn a_source_is_a_name_or_a_pattern() {
    let (_dir, context) = context();
    assert_eq!(names(&context, "./etc/daemon.json"), ["daemon.json"]);
    assert_eq!(names(&context, "/etc/*.json"), ["daemon.json"]);
    assert_eq!(names(&context, "*/k*"), ["kubeadm", "kubelet.service"]);
    assert_eq!(names(&context, "a[1].txt"), ["a[1].txt"]);
    assert!(matches!(context.find(".").unwrap()[0].kind, FoundKind::Folder(_)));
}

#[test]
fn nothing_outside_is_found_and_slips_are_recognised() {
    let (dir, context) = context();
    std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
    for source in ["../x", "etc/../../x", "out", "out/passwd", "..", "o*/passwd"] {
        assert!(context.find(source).is_err(), "{source}");
    }
    let error = context.find("etc/deamon.json").unwrap_err();
    assert_eq!(error.help.as_deref(), Some("did you mean etc/daemon.json?"));
    assert!(context.find("*.yaml").unwrap_err().message.contains("matches"));
}
