//! This module owns [`Places`]: where this user's and this machine's configuration of registries lies.

use std::path::{Path, PathBuf};

/// The folders that docker and the containers tools keep their files in. Tests have their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// `$REGISTRY_AUTH_FILE`: the one auth file to use.
    pub auth_file: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`; for root without one, where podman puts it.
    pub runtime: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`.
    pub config: Option<PathBuf>,
    /// `$DOCKER_CONFIG`, else `~/.docker`.
    pub docker: Option<PathBuf>,
    /// `~/.sealer`.
    pub sealer: Option<PathBuf>,
    /// `$CONTAINERS_REGISTRIES_CONF`: the one `registries.conf` to use.
    pub registries_conf: Option<PathBuf>,
    /// `/etc`.
    pub etc: PathBuf,
}

impl Places {
    /// What the environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        let path = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let below = |name: &str| home.as_ref().map(|home| home.join(name));
        let runtime = path("XDG_RUNTIME_DIR").or_else(|| {
            let system = Path::new("/run/containers/0");
            // Only root may write there.
            let owner = std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own));
            owner.is_ok_and(|uid| uid == 0).then(|| system.to_owned())
        });
        Self {
            auth_file: path("REGISTRY_AUTH_FILE"),
            runtime,
            config: path("XDG_CONFIG_HOME").or_else(|| below(".config")),
            docker: path("DOCKER_CONFIG").or_else(|| below(".docker")),
            sealer: below(".sealer"),
            registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
            etc: "/etc".into(),
        }
    }

    /// The auth files that are read, the first that knows a registry decides.
    #[must_use]
    pub fn auth_files(&self) -> Vec<PathBuf> {
        if let Some(only) = &self.auth_file {
            return vec![only.clone()];
        }
        let found = [
            self.runtime_auth_file(),
            self.config.as_ref().map(|dir| dir.join("containers/auth.json")),
            self.docker.as_ref().map(|dir| dir.join("config.json")),
            self.sealer.as_ref().map(|dir| dir.join("auth.json")),
        ];
        found.into_iter().flatten().collect()
    }

    /// The auth file that `login` writes: what podman, buildah and skopeo read first.
    #[must_use]
    pub fn login_file(&self) -> Option<PathBuf> {
        self.auth_files().into_iter().next()
    }

    fn runtime_auth_file(&self) -> Option<PathBuf> {
        let dir = self.runtime.as_ref()?;
        Some(if dir.starts_with("/run/containers") {
            dir.join("auth.json")
        } else {
            dir.join("containers/auth.json")
        })
    }

    /// The files of `registries.conf`, later ones over earlier ones.
    #[must_use]
    pub fn registries_conf_files(&self) -> Vec<PathBuf> {
        if let Some(only) = &self.registries_conf {
            return vec![only.clone()];
        }
        let user = self
            .config
            .as_ref()
            .map(|dir| dir.join("containers/registries.conf"));
        let main = match user {
            Some(user) if user.exists() => user,
            _ => self.etc.join("containers/registries.conf"),
        };
        let mut files = vec![main];
        let folders = [
            Some(self.etc.join("containers/registries.conf.d")),
            self.config
                .as_ref()
                .map(|dir| dir.join("containers/registries.conf.d")),
        ];
        for folder in folders.into_iter().flatten() {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut found: Vec<_> = entries.map(|entry| entry.path()).collect();
            found.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
            found.sort();
            files.extend(found);
        }
        files
    }

    /// The folders that may hold certificates of the registry `host`, the first that is there is used.
    #[must_use]
    pub fn certificate_folders(&self, host: &str) -> Vec<PathBuf> {
        let user = self.config.as_ref().map(|dir| dir.join("containers/certs.d"));
        let system = [
            self.etc.join("containers/certs.d"),
            self.etc.join("docker/certs.d"),
        ];
        user.into_iter().chain(system).map(|dir| dir.join(host)).collect()
    }
}
