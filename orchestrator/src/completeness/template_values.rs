//! This module owns [`TemplateValues`]: what an image itself gives its templates. A Clusterfile may give others; which, nobody knows
//! who builds the image.

use std::collections::BTreeMap;

use gantry_store::Extension;
use gantry_store::extension::APPLICATIONS;

/// The environment of an image, and those of its applications.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateValues {
    image: BTreeMap<String, String>,
    applications: BTreeMap<String, BTreeMap<String, String>>,
}

impl TemplateValues {
    /// The values of an image with this environment, and of the applications that `extension` names.
    #[must_use]
    pub fn new(env: &[(String, String)], extension: Option<&Extension>) -> Self {
        let image: BTreeMap<String, String> = env.iter().cloned().collect();
        let applications = extension
            .map(|extension| extension.applications.as_slice())
            .unwrap_or_default();
        Self {
            applications: applications
                .iter()
                .map(|one| {
                    let mut values = image.clone();
                    values.extend(one.env.clone());
                    (one.name.clone(), values)
                })
                .collect(),
            image,
        }
    }

    /// The values of a template at `path` of the rootfs.
    #[must_use]
    pub fn at(&self, path: &str) -> &BTreeMap<String, String> {
        let below = path
            .strip_prefix(APPLICATIONS)
            .and_then(|rest| rest.strip_prefix('/'));
        let application = below.and_then(|rest| rest.split_once('/')).map(|(name, _)| name);
        application
            .and_then(|name| self.applications.get(name))
            .unwrap_or(&self.image)
    }
}
