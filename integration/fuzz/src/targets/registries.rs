//! What registries say, and what people say about them.

use std::path::Path;

use gantry_registry_client::{
    AuthFile, Credentials, Namespace, RegistriesConf, RemoteImage, parse_challenges,
};

use super::{texts, with_text};
use crate::Target;

/// docker's and containers' file of passwords.
pub(crate) const AUTH_FILE: Target = Target {
    name: "auth-file",
    seeds: || {
        texts(&[
            "{\"auths\":{\"a.test:5000\":{\"auth\":\"YTpi\"},\"https://index.docker.io/v1/\":{\"identitytoken\":\"x\"}},\
             \"credHelpers\":{\"b.test\":\"pass\"},\"credsStore\":\"desktop\"}",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let Ok(mut file) = AuthFile::parse(Path::new("auth.json"), text) else {
                return;
            };
            for one in ["a.test:5000", "a.test:5000/team"] {
                let one = Namespace::parse(one).expect("it is a registry or a part of one");
                file.set(&one, &Credentials::IdentityToken("x".to_owned()));
                assert!(file.remove(&one), "what was put in can be taken out");
                assert!(!file.remove(&one), "once");
            }
        });
    },
};

/// `registries.conf`, and the places it names for an image.
pub(crate) const REGISTRIES_CONF: Target = Target {
    name: "registries-conf",
    seeds: || {
        texts(&[
            "unqualified-search-registries = [\"a.test\"]\n[[registry]]\nprefix = \"*.b.test\"\nlocation = \"c.test/d\"\n\
             insecure = true\n[[registry.mirror]]\nlocation = \"e.test:5000\"\n[aliases]\n\"x\" = \"f.test/x\"\n",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let mut conf = RegistriesConf::default();
            if conf.add(Path::new("registries.conf"), text).is_err() {
                return;
            }
            for name in ["x", "a.b.test/c:d", "[::1]:5000/a"] {
                let Ok(name) = name.parse() else { continue };
                for name in conf.full_names(&name).unwrap_or_default() {
                    if let Ok(image) = RemoteImage::of(&name) {
                        let _ = conf.endpoints(&image.repository, false);
                    }
                }
            }
        });
    },
};

/// `WWW-Authenticate`.
pub(crate) const CHALLENGE: Target = Target {
    name: "challenge",
    seeds: || {
        texts(&[
            "Bearer realm=\"https://a.test/token\",service=\"b\",scope=\"repository:c:pull,push\", Basic realm=\"d\\\"e\"",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let _ = parse_challenges(text);
        });
    },
};
