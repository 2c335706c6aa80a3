//! Logins that a credential helper keeps, and a registry with an IPv6 address: Gantry and skopeo share them, and a real registry.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;

use gantry_integration::ImageTree;
use gantry_integration::image_desk::ImageDesk;
use gantry_integration::registry::{Guard, Registry};

/// `ops` with the password `geheim`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "ops:$2y$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";
/// A helper that keeps each login in a file beside it, and notes what it was asked for
/// (docker-credential-helpers, "Development").
const HELPER: &str = r#"#!/bin/bash
kept=${0%/*}/kept
mkdir -p "$kept"
input=$(cat)
echo "$1" >>"$kept/asked"
case $1 in
    store)
        [[ $input =~ \"ServerURL\":\"([^\"]*)\" ]] || { echo "no ServerURL"; exit 1; }
        printf '%s' "$input" >"$kept/$(sha256sum <<<"${BASH_REMATCH[1]}" | cut -c1-64)"
        ;;
    get | erase)
        file=$kept/$(sha256sum <<<"$input" | cut -c1-64)
        [ -e "$file" ] || { echo "credentials not found in native keychain"; exit 1; }
        if [ "$1" = get ]; then cat "$file"; else rm "$file"; fi
        ;;
    *) echo "no such verb"; exit 1 ;;
esac
"#;

fn desk_with_image() -> ImageDesk {
    let desk = ImageDesk::new().unwrap();
    ImageTree::with_scripts(&desk.folder().join("context")).unwrap();
    desk.gantry("build -t demo:v1 context").unwrap().ok().unwrap();
    desk
}

/// A program beside `gantry`, which is found as it is.
fn program(desk: &ImageDesk, name: &str, script: &str) {
    let path = desk.folder().join("package/usr/bin").join(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn guarded() -> Guard {
    Guard {
        htpasswd: Some(HTPASSWD.to_owned()),
        ..Guard::default()
    }
}

#[test]
fn a_credential_helper_keeps_the_login() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &guarded()).unwrap();
    let (host, target) = (registry.host(), format!("{}/team/demo:v1", registry.host()));
    program(&desk, "docker-credential-test", HELPER);
    // For one registry, and in the place of podman's file for all of them, as docker has it.
    let of_docker = format!(r#"{{"credHelpers": {{"{host}": "test"}}}}"#);
    let of_all = r#"{"credsStore": "test"}"#.to_owned();
    for (round, file, text) in [
        (1, "home/.docker/config.json", of_docker),
        (2, "run/containers/auth.json", of_all),
    ] {
        let path = desk.folder().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        let authfile = format!("--authfile {file}");
        let gantry = |words: &str| desk.gantry_in(&format!("root-{round}"), words).unwrap();
        let refused = gantry(&format!("pull {target} --insecure"));
        assert_eq!(refused.status, Some(5), "{refused}");
        assert!(
            refused.stderr.contains(&format!("`gantry login {host}`")),
            "{refused}"
        );
        let wrong = desk
            .gantry(&format!("login {host} -u ops -p falsch --insecure {authfile}"))
            .unwrap();
        assert_eq!(wrong.status, Some(5), "{wrong}");
        let login = gantry(&format!("login {host} -u ops -p geheim --insecure {authfile}"));
        let said = login.clone().ok().unwrap();
        assert!(said.contains("kept by docker-credential-test"), "{login}");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            text,
            "the file has no secret in it"
        );

        desk.gantry(&format!("push demo:v1 {target} --insecure"))
            .unwrap()
            .ok()
            .unwrap();
        gantry(&format!("pull {target} --insecure")).ok().unwrap();
        // Others find by the same helper what Gantry gave it; skopeo knows `credHelpers` alone.
        if text.contains("credHelpers") {
            desk.sh(&format!(
                "skopeo inspect --tls-verify=false --authfile {file} docker://{target} >/dev/null"
            ))
            .unwrap();
        }

        let logout = gantry(&format!("logout {host} {authfile}"));
        assert!(
            logout.clone().ok().unwrap().contains("docker-credential-test"),
            "{logout}"
        );
        let again = gantry(&format!("pull {target} --insecure"));
        assert_eq!(again.status, Some(5), "{again}");
        let twice = gantry(&format!("logout {host} {authfile}"));
        assert!(twice.stderr.contains("no login"), "{twice}");
        for said in [&refused, &wrong, &login, &logout, &again] {
            assert!(!said.all_output().contains("geheim"), "{said}");
        }
        let asked = fs::read_to_string(desk.folder().join("package/usr/bin/kept/asked")).unwrap();
        for verb in ["store", "get", "erase"] {
            let count = asked.lines().filter(|line| *line == verb).count();
            assert!(count >= round, "{verb} in round {round}: {asked}");
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_credential_helper_that_does_not_help_is_named() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &guarded()).unwrap();
    let (host, target) = (registry.host(), format!("{}/team/demo:v1", registry.host()));
    let config = desk.folder().join("home/.docker/config.json");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    program(
        &desk,
        "docker-credential-locked",
        "#!/bin/sh\necho the keyring is locked\nexit 1\n",
    );
    program(
        &desk,
        "docker-credential-odd",
        "#!/bin/sh\necho geheim is the password\n",
    );
    program(&desk, "docker-credential-silent", "#!/bin/sh\nexit 7\n");
    program(&desk, "docker-credential-endless", "#!/bin/sh\nexec yes\n");
    for (helper, reason) in [
        (
            "missing",
            "there is no such program; install it, or take it out of that file",
        ),
        ("locked", "the keyring is locked"),
        ("odd", "its answer is no JSON object with Username and Secret"),
        ("silent", "it ended with exit status: 7"),
        ("endless", "its answer is longer than 65536 bytes"),
        ("../../bin/sh", "is not the name of a credential helper"),
    ] {
        fs::write(&config, format!(r#"{{"credHelpers": {{"{host}": "{helper}"}}}}"#)).unwrap();
        let refused = desk.gantry(&format!("push demo:v1 {target} --insecure")).unwrap();
        let code = if helper.contains('/') { 2 } else { 5 };
        assert_eq!(refused.status, Some(code), "{refused}");
        assert!(
            refused.stderr.contains(reason) && refused.stderr.contains(".docker/config.json"),
            "{helper}: {refused}"
        );
        assert!(!refused.all_output().contains("geheim"), "{refused}");
    }
    assert_eq!(registry.requests("PUT", "").unwrap(), 0, "nothing was sent");
}

#[test]
fn a_registry_with_an_ipv6_address() {
    let desk = desk_with_image();
    let folder = desk.folder().join("registry");
    let registry = Registry::start_at(Ipv6Addr::LOCALHOST.into(), &folder, &guarded()).unwrap();
    let (host, target) = (registry.host(), format!("{}/team/demo:v1", registry.host()));
    assert!(host.starts_with("[::1]:"), "{host}");
    let nobody = desk.gantry(&format!("push demo:v1 {target} --insecure")).unwrap();
    assert_eq!(nobody.status, Some(5), "{nobody}");
    desk.gantry(&format!("login {host} -u ops -p geheim --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    let pushed = desk
        .gantry(&format!("push demo:v1 {target} --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    let pulled = desk
        .gantry_in("other", &format!("pull {target} --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(pulled, pushed);
    let tags = desk
        .gantry(&format!("search {host}/team/demo --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    assert!(tags.contains("v1"), "{tags}");
    // The login lies where podman and skopeo look for it; skopeo 1.9 knows no such names.
    let auths = fs::read_to_string(desk.folder().join("run/containers/auth.json")).unwrap();
    assert!(auths.contains(&format!("\"{host}\"")), "{auths}");
    desk.gantry(&format!("logout {host}")).unwrap().ok().unwrap();
    let again = desk
        .gantry_in("third", &format!("pull {target} --insecure"))
        .unwrap();
    assert_eq!(again.status, Some(5), "{again}");
}
