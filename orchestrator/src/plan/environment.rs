//! The environment of scripts: the image's, under the cluster's, under the host's, under what Gantry says itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_model::takes_code;
use gantry_store::Application;

use super::{PlanImage, scripts};
use crate::clusterfile::{Clusterfile, Host};

/// Which addresses of `SvcCIDR` Kubernetes gives to its own service and to DNS.
const KUBE_SERVICE: u32 = 1;
const DNS_SERVICE: u32 = 10;

/// The environment of scripts on `host`.
pub(crate) fn environment(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
) -> BTreeMap<String, String> {
    let mut env = image.env.clone();
    // Hosts cannot tell whose they are.
    env.retain(|name, _| !takes_code(name));
    env.extend(clusterfile.env.clone());
    env.extend(host.env.clone());

    let registry = &clusterfile.registry;
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    for prefix in ["Registry", "LocalRegistry"] {
        set(&format!("{prefix}Domain"), registry.domain.clone());
        set(&format!("{prefix}Port"), registry.port.to_string());
        set(
            &format!("{prefix}URL"),
            format!("{}:{}", registry.domain, registry.port),
        );
    }
    set("ContainerRuntime", scripts::runtime(clusterfile, image));
    set("HostIP", host.address.to_string());
    if host.address.is_ipv6() {
        set("HostIPFamily", "6".into());
    }
    let services = env
        .get("SvcCIDR")
        .and_then(|range| range.split(',').next()?.split_once('/')?.0.parse().ok());
    if let Some(services) = services {
        env.entry("KubeSvcIP".into())
            .or_insert_with(|| nth(services, KUBE_SERVICE));
        env.entry("DNSSvcIP".into())
            .or_insert_with(|| nth(services, DNS_SERVICE));
    }
    env
}

/// The environment of what launches the application `name` on `host`.
pub(super) fn application_environment(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    name: &str,
) -> BTreeMap<String, String> {
    let mut env = environment(clusterfile, image, host);
    let applications = image.commands.iter().flat_map(|commands| &commands.applications);
    let application = applications
        .into_iter()
        .find(|application| application.name == name);
    let own = application.into_iter().flat_map(Application::environment);
    env.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    let settings = clusterfile.applications.settings.get(name);
    env.extend(settings.map(|settings| settings.env.clone()).unwrap_or_default());
    env
}

fn nth(base: IpAddr, n: u32) -> String {
    match base {
        IpAddr::V4(base) => std::net::Ipv4Addr::from(u32::from(base).wrapping_add(n)).to_string(),
        IpAddr::V6(base) => std::net::Ipv6Addr::from(u128::from(base).wrapping_add(n.into())).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_addresses_are_counted_from_the_start_of_the_range() {
        assert_eq!(nth("10.96.0.0".parse().unwrap(), DNS_SERVICE), "10.96.0.10");
        assert_eq!(nth("fd00::".parse().unwrap(), KUBE_SERVICE), "fd00::1");
    }
}
