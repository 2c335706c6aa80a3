//! Where ClusterImages keep templates: said once, for whoever plans and whoever renders.

/// The folders at the top of a rootfs in which templates are rendered; the first three are sealer's.
pub const FOLDERS: [&str; 4] = ["etc", "charts", "manifests", "statics"];

/// Whether `path` of a rootfs lies in one of the [`FOLDERS`].
#[must_use]
pub fn is_in_folders(path: &str) -> bool {
    let (top, _) = path.split_once('/').unwrap_or_default();
    FOLDERS.contains(&top)
}

const ENDING: &str = ".tmpl";

/// The name, or path, of the file that a template of this name makes; none when it is no template's name.
#[must_use]
pub fn target(name: &str) -> Option<&str> {
    let target = name.strip_suffix(ENDING)?;
    (!target.is_empty() && !target.ends_with('/')).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_makes_the_file_without_its_ending() {
        assert_eq!(target("etc/kubeadm.yml.tmpl"), Some("etc/kubeadm.yml"));
        assert_eq!(target("a.tmpl.tmpl"), Some("a.tmpl"));
        for other in ["a.yml", ".tmpl", "etc/.tmpl", "a.tmpl.bak", ""] {
            assert_eq!(target(other), None, "{other}");
        }
    }
}
