//! Gantry, skopeo and podman share a real registry: what one pushes the others read, under every guard there is.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use gantry_integration::ImageTree;
use gantry_integration::image_desk::ImageDesk;
use gantry_integration::registry::{Guard, Registry};
use gantry_integration::token_server::TokenServer;

/// `ops` with the password `geheim`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "ops:$2y$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";

/// A desk with an image `demo:v1` of about 6 MB.
fn desk_with_image() -> ImageDesk {
    let desk = ImageDesk::new().unwrap();
    ImageTree::with_scripts(&desk.folder().join("context"))
        .unwrap()
        .incompressible("bin/kubelet", 6_000_000, 7)
        .unwrap();
    desk.gantry("build -t demo:v1 context").unwrap().ok().unwrap();
    desk
}

fn digest(printed: &str) -> &str {
    printed.trim().split_once('@').unwrap().1
}

#[test]
fn what_gantry_pushed_skopeo_and_podman_read() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let host = registry.host();

    let refused = desk
        .gantry(&format!("push demo:v1 {host}/team/demo:v1 --retries 0"))
        .unwrap();
    assert_eq!(refused.status, Some(6), "{refused}");
    assert!(
        refused.stderr.contains("does not speak TLS") && refused.stderr.contains("--insecure"),
        "{refused}"
    );

    let pushed = desk
        .gantry(&format!("push demo:v1 {host}/team/demo:v1 --insecure"))
        .unwrap();
    let printed = pushed.clone().ok().unwrap();
    assert!(
        printed.starts_with(&format!("{host}/team/demo:v1@sha256:")),
        "{printed}"
    );
    assert!(pushed.stderr.contains("3 blobs pushed"), "{pushed}");

    let seen = desk.sh(&format!(
        "skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{host}/team/demo:v1"
    ));
    assert_eq!(seen.unwrap().trim(), digest(&printed));
    desk.sh(&format!(
        "skopeo copy --quiet --src-tls-verify=false docker://{host}/team/demo:v1 dir:copied"
    ))
    .unwrap();
    let podman = "podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver vfs";
    let same = format!(
        "id=$({podman} pull --quiet --tls-verify=false {host}/team/demo:v1)\n\
         folder=$({podman} image mount $id)\n\
         diff --recursive --exclude=Kubefile context $folder && echo same\n\
         {podman} image unmount --all >/dev/null"
    );
    assert_eq!(desk.sh(&same).unwrap().trim(), "same");

    // Once more: nothing travels.
    let before = registry.requests("PATCH", "").unwrap() + registry.requests("PUT", "").unwrap();
    let again = desk
        .gantry(&format!("push demo:v1 {host}/team/demo:v1 --insecure"))
        .unwrap();
    assert!(again.stderr.contains("nothing had to travel"), "{again}");
    // Under another name the registry takes the blobs from the first.
    let other = desk
        .gantry(&format!("push demo:v1 {host}/mine/demo:v2 --insecure"))
        .unwrap();
    assert!(other.stderr.contains("3 from another repository"), "{other}");
    let after = registry.requests("PATCH", "").unwrap() + registry.requests("PUT", "").unwrap();
    assert_eq!(
        after - before,
        1,
        "one manifest is all that was sent:\n{}",
        registry.log().unwrap()
    );

    let tags = desk
        .gantry(&format!("search {host}/team/demo --insecure -o json"))
        .unwrap()
        .ok()
        .unwrap();
    assert!(tags.contains("\"v1\""), "{tags}");
    let missing = desk
        .gantry(&format!("pull {host}/team/demo:v9 --insecure"))
        .unwrap();
    assert_eq!(missing.status, Some(2), "{missing}");
}

#[test]
fn a_changed_byte_in_the_registry_makes_no_image() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let name = format!("{}/team/demo:v1", registry.host());
    let pushed = desk.gantry(&format!("push demo:v1 {name} --insecure")).unwrap();
    pushed.ok().unwrap();
    // Of every file that it keeps, which are the manifest, the config and two layers, one after the other.
    let blobs = desk.sh("find registry/data -path '*/blobs/*/data'").unwrap();
    assert_eq!(blobs.lines().count(), 4, "{blobs}");
    for (number, blob) in blobs.lines().enumerate() {
        // What came whole the time before is not asked for again.
        let root = format!("other-{number}");
        desk.sh(&format!(
            "cp {blob} whole && printf X | dd of={blob} bs=1 seek=100 conv=notrunc status=none"
        ))
        .unwrap();
        let refused = desk
            .gantry_in(&root, &format!("pull {name} --insecure --retries 0"))
            .unwrap();
        assert_eq!(refused.status, Some(6), "{blob}: {refused}");
        assert_eq!(desk.gantry_in(&root, "images -q").unwrap().ok().unwrap(), "");
        desk.sh(&format!("cp whole {blob}")).unwrap();
        let pulled = desk.gantry_in(&root, &format!("pull {name} --insecure")).unwrap();
        pulled.ok().unwrap();
        desk.gantry_in(&root, "store check").unwrap().ok().unwrap();
    }
}

/// Whether the tree is built anew or a file is put over it: what the registry holds more afterwards is what travelled.
#[test]
fn of_an_image_that_changed_in_one_file_less_than_a_megabyte_is_pushed() {
    let desk = ImageDesk::new().unwrap();
    let mut tree = ImageTree::with_scripts(&desk.folder().join("context")).unwrap();
    for (number, name) in (1..).zip(["kubelet", "kubectl", "conntrack"]) {
        tree = tree
            .incompressible(&format!("bin/{name}"), 20_000_000, number)
            .unwrap();
    }
    let tree = tree.incompressible("etc/changed", 100_000, 10).unwrap();
    let folder = desk.folder().join("registry");
    let registry = Registry::start(&folder, &Guard::default()).unwrap();
    let push = |context: &str| {
        let held = || -> u64 {
            let words = format!("du --summarize --bytes {}/data | cut -f1", folder.display());
            desk.sh(&words).unwrap().trim().parse().unwrap()
        };
        let before = held();
        desk.gantry(&format!("build -t demo:v1 {context}"))
            .unwrap()
            .ok()
            .unwrap();
        let words = format!("push demo:v1 {}/team/demo:v1 --insecure", registry.host());
        desk.gantry(&words).unwrap().ok().unwrap();
        held() - before
    };
    let all = push("context");
    assert!(all > 60_000_000, "{all}");
    tree.incompressible("etc/changed", 100_000, 11).unwrap();
    let anew = push("context");
    assert!((100_000..1_000_000).contains(&anew), "{anew} bytes of {all}");

    ImageTree::at(&desk.folder().join("above"))
        .unwrap()
        .file("Kubefile", "FROM demo:v1\nCOPY changed etc/\n")
        .unwrap()
        .incompressible("changed", 100_000, 12)
        .unwrap();
    let above = push("above");
    assert!((100_000..1_000_000).contains(&above), "{above} bytes of {all}");
}

#[test]
fn skopeo_carries_what_gantry_signed_and_openssl_verifies_it() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let host = registry.host();
    let gantry = |words: &str| desk.gantry(words).unwrap().ok().unwrap();
    gantry("keys generate");
    gantry("keys generate -o other");
    let (image, copied) = (format!("{host}/team/demo:v1"), format!("{host}/copied/demo:v1"));
    gantry(&format!("tag demo:v1 {image}"));
    gantry(&format!("push {image} --insecure"));
    // The image is there; its signature travels alone.
    gantry(&format!("sign --key gantry.key {image}"));
    let pushed = gantry(&format!("push {image} --insecure"));
    let tag = format!("{}.sig", digest(&pushed).replace(':', "-"));

    let url = format!("http://{host}/v2/team/demo");
    let signatures = desk
        .sh(&format!(
            "curl --fail --silent --header 'Accept: application/vnd.oci.image.manifest.v1+json' \
             {url}/manifests/{tag}"
        ))
        .unwrap();
    let signatures: serde_json::Value = serde_json::from_str(&signatures).unwrap();
    let layer = &signatures["layers"][0];
    let payload = layer["digest"].as_str().unwrap();
    let signature = layer["annotations"]["dev.cosignproject.cosign/signature"]
        .as_str()
        .unwrap();
    let verify = format!(
        "set -e\n\
         curl --fail --silent {url}/blobs/{payload} >payload\n\
         grep --quiet {} payload\n\
         echo {signature} | openssl base64 -d -A >signature\n\
         openssl dgst -sha256 -verify gantry.pub -signature signature payload",
        digest(&pushed)
    );
    assert_eq!(desk.sh(&verify).unwrap().trim(), "Verified OK");

    // skopeo knows signatures of this form: it finds them, and takes them along to another repository.
    let copy = format!(
        "mkdir registries.d\n\
         printf 'default-docker:\\n  use-sigstore-attachments: true\\n' >registries.d/default.yaml\n\
         echo '{{\"default\": [{{\"type\": \"insecureAcceptAnything\"}}]}}' >policy.json\n\
         skopeo --policy policy.json --registries.d registries.d copy --quiet --src-tls-verify=false \
         --dest-tls-verify=false docker://{image} docker://{copied}"
    );
    desk.sh(&copy).unwrap();
    let elsewhere = |words: &str| desk.gantry_in("elsewhere", words).unwrap();
    elsewhere(&format!("pull {copied} --insecure")).ok().unwrap();
    let verified = elsewhere(&format!("verify --key gantry.pub {copied}"));
    assert!(verified.clone().ok().unwrap().contains("team/demo"), "{verified}");
    let wrong = elsewhere(&format!("verify --key other.pub {copied}"));
    assert_eq!(wrong.status, Some(6), "{wrong}");
}

#[test]
fn what_others_pushed_gantry_reads() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let host = registry.host();
    desk.gantry("save -o demo.tar demo:v1").unwrap().ok().unwrap();
    // In two steps: skopeo 1.9 does not decompress zstd and compress again at once.
    desk.sh("skopeo copy --quiet --dest-decompress oci-archive:demo.tar dir:plain")
        .unwrap();
    desk.sh("mkdir tree && cp -a context/. tree/ && rm tree/Kubefile")
        .unwrap();
    for (tag, words) in [
        ("oci-gzip", "--format oci --dest-compress-format gzip dir:plain"),
        (
            "docker-gzip",
            "--format v2s2 --dest-compress-format gzip dir:plain",
        ),
        ("oci-zstd", "--format oci --dest-compress-format zstd dir:plain"),
        ("chunked", ""),
    ] {
        let target = format!("{host}/others/demo:{tag}");
        if words.is_empty() {
            // By Gantry: skopeo 1.9 forgets what makes a layer a chunked one.
            desk.gantry(&format!("push demo:v1 {target} --insecure"))
                .unwrap()
                .ok()
                .unwrap();
        } else {
            desk.sh(&format!(
                "skopeo copy --quiet --dest-tls-verify=false {words} docker://{target}"
            ))
            .unwrap();
        }
        let root = format!("root-{tag}");
        let pulled = desk
            .gantry_in(&root, &format!("pull {target} --insecure"))
            .unwrap();
        let printed = pulled.clone().ok().unwrap();
        let cut = pulled.stderr.contains("cutting it into chunks");
        assert_eq!(
            cut,
            tag != "chunked",
            "our own form stays as it is, others get one: {pulled}"
        );
        let said = desk.sh(&format!(
            "skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{target}"
        ));
        assert_eq!(said.unwrap().trim(), digest(&printed));
        let merged = desk.merged(&root, &target).unwrap();
        let same = format!("diff --recursive --exclude=Kubefile tree {merged} && echo same");
        assert_eq!(desk.sh(&same).unwrap().trim(), "same", "{tag}");
        // The original goes on as it came.
        desk.gantry_in(
            &root,
            &format!("push {target} {host}/again/demo:{tag} --insecure"),
        )
        .unwrap()
        .ok()
        .unwrap();
        let again = desk.sh(&format!(
            "skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{host}/again/demo:{tag}"
        ));
        assert_eq!(again.unwrap().trim(), digest(&printed), "{tag}");
    }
}

#[test]
fn a_list_of_images_is_pulled_for_one_platform_or_whole() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let host = registry.host();
    desk.gantry("build -t arm:v1 --platform linux/arm64 context")
        .unwrap()
        .ok()
        .unwrap();
    for image in ["demo:v1", "arm:v1"] {
        desk.gantry(&format!("push {image} {host}/list/{image} --insecure --quiet"))
            .unwrap()
            .ok()
            .unwrap();
    }
    // A list as buildx makes it: two platforms, and a statement about one of them.
    let list = r#"
        repo=http://HOST/v2/list/demo
        accept='Accept: application/vnd.oci.image.manifest.v1+json'
        curl --silent --show-error --fail -H "$accept" http://HOST/v2/list/arm/manifests/v1 -o arm.json
        curl --silent --show-error --fail -H "$accept" $repo/manifests/v1 -o amd.json
        skopeo copy --quiet --src-tls-verify=false --dest-tls-verify=false docker://HOST/list/arm:v1 docker://HOST/list/demo:arm
        put() { curl --silent --show-error --fail -X PUT -H "Content-Type: $1" --data-binary @$2 $repo/manifests/$3; }
        blob() {
            location=$(curl --silent --show-error --fail -X POST -D - $repo/blobs/uploads/ | tr -d '\r' | sed -n 's/^Location: //p')
            curl --silent --show-error --fail -X PUT -H 'Content-Type: application/octet-stream' --data-binary @$1 "$location&digest=sha256:$(sha256sum $1 | cut -d' ' -f1)"
        }
        entry() { printf '{"mediaType":"%s","digest":"sha256:%s","size":%d' "$1" "$(sha256sum $2 | cut -d' ' -f1)" "$(stat -c %s $2)"; }
        manifest=application/vnd.oci.image.manifest.v1+json
        echo '{"_type":"https://in-toto.io/Statement/v0.1"}' >statement.json
        printf '{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$(sha256sum statement.json | cut -d' ' -f1)" >unknown.json
        blob statement.json; blob unknown.json
        printf '{"schemaVersion":2,"mediaType":"%s","config":%s},"layers":[%s}]}' $manifest "$(entry application/vnd.oci.image.config.v1+json unknown.json)" "$(entry application/vnd.in-toto+json statement.json)" >attestation.json
        put $manifest attestation.json sha256:$(sha256sum attestation.json | cut -d' ' -f1)
        printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s,"platform":{"os":"linux","architecture":"amd64"}},%s,"platform":{"os":"linux","architecture":"arm64"}},%s,"annotations":{"vnd.docker.reference.type":"attestation-manifest"},"platform":{"os":"unknown","architecture":"unknown"}}]}' \
            "$(entry $manifest amd.json)" "$(entry $manifest arm.json)" "$(entry $manifest attestation.json)" >index.json
        put application/vnd.oci.image.index.v1+json index.json all
        sha256sum attestation.json | cut -d' ' -f1
        sha256sum index.json | cut -d' ' -f1
    "#;
    let printed = desk.sh(&list.replace("HOST", host)).unwrap();
    let digests: Vec<&str> = printed.lines().collect();
    let [.., attestation, index] = digests[..] else {
        panic!("{printed}");
    };
    let name = format!("{host}/list/demo:all");

    let one = desk
        .gantry_in("one", &format!("pull {name} --insecure --platform linux/arm64"))
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(digest(&one), format!("sha256:{index}"));
    let asked = registry.requests("GET", attestation).unwrap();
    assert_eq!(asked, 0, "what is said about an image is no image");
    let refused = desk
        .gantry_in(
            "one",
            &format!("push {name} {host}/elsewhere/demo:all --insecure"),
        )
        .unwrap();
    assert_eq!(refused.status, Some(2), "{refused}");
    assert!(
        refused.stderr.contains("linux/amd64") && refused.stderr.contains("--all-platforms"),
        "{refused}"
    );
    let wrong = desk
        .gantry_in("one", &format!("pull {name} --insecure --platform linux/s390x"))
        .unwrap();
    assert!(
        wrong.stderr.contains("there is one for linux/amd64, linux/arm64"),
        "{wrong}"
    );

    desk.gantry_in("all", &format!("pull {name} --insecure --all-platforms"))
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(
        registry.requests("GET", attestation).unwrap(),
        1,
        "the list is whole"
    );
    desk.gantry_in("all", "store check").unwrap().ok().unwrap();
    desk.gantry_in(
        "all",
        &format!("push {name} {host}/elsewhere/demo:all --insecure"),
    )
    .unwrap()
    .ok()
    .unwrap();
    let raw = desk.sh(&format!(
        "skopeo inspect --tls-verify=false --raw docker://{host}/elsewhere/demo:all | sha256sum"
    ));
    assert!(raw.unwrap().starts_with(index), "the list arrives as it was");
}

#[test]
fn a_registry_with_its_own_authority_and_a_password() {
    let desk = desk_with_image();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let guard = Guard {
        tls: Some((certificate.pem(), key.serialize_pem())),
        htpasswd: Some(HTPASSWD.to_owned()),
        token: None,
    };
    let registry = Registry::start(&desk.folder().join("registry"), &guard).unwrap();
    let host = registry.host();
    let target = format!("{host}/team/demo:v1");

    let untrusted = desk.gantry(&format!("push demo:v1 {target}")).unwrap();
    assert_eq!(untrusted.status, Some(6), "{untrusted}");
    assert!(untrusted.stderr.contains("certs.d"), "{untrusted}");

    std::fs::create_dir_all(
        desk.folder()
            .join(format!("home/.config/containers/certs.d/{host}")),
    )
    .unwrap();
    desk.sh(&format!(
        "cp registry/registry.crt home/.config/containers/certs.d/{host}/ca.crt"
    ))
    .unwrap();
    let nobody = desk.gantry(&format!("push demo:v1 {target}")).unwrap();
    assert_eq!(nobody.status, Some(5), "{nobody}");
    assert!(
        nobody.stderr.contains(&format!("`gantry login {host}`")),
        "{nobody}"
    );
    let wrong = desk.gantry(&format!("login {host} -u ops -p falsch")).unwrap();
    assert_eq!(wrong.status, Some(5), "{wrong}");
    assert!(
        !desk.folder().join("run/containers/auth.json").exists(),
        "a wrong password is not kept"
    );
    desk.gantry(&format!("login {host} -u ops -p geheim"))
        .unwrap()
        .ok()
        .unwrap();
    desk.gantry(&format!("push demo:v1 {target}"))
        .unwrap()
        .ok()
        .unwrap();
    // The login is where podman and skopeo look for it.
    desk.sh(&format!(
        "skopeo inspect --cert-dir home/.config/containers/certs.d/{host} docker://{target}"
    ))
    .unwrap();
    desk.gantry_in("other", &format!("pull {target}"))
        .unwrap()
        .ok()
        .unwrap();
    desk.gantry(&format!("logout {host}")).unwrap().ok().unwrap();
    let again = desk.gantry_in("third", &format!("pull {target}")).unwrap();
    assert_eq!(again.status, Some(5), "{again}");

    // A login to a part of the registry counts there alone, for skopeo as well; whoever made it, the other ends it.
    desk.gantry(&format!("login {host}/team -u ops -p geheim"))
        .unwrap()
        .ok()
        .unwrap();
    desk.sh(&format!(
        "skopeo inspect --cert-dir home/.config/containers/certs.d/{host} docker://{target}"
    ))
    .unwrap();
    desk.gantry_in("third", &format!("pull {target}"))
        .unwrap()
        .ok()
        .unwrap();
    let elsewhere = desk.gantry(&format!("push demo:v1 {host}/mine/demo:v1")).unwrap();
    assert_eq!(elsewhere.status, Some(5), "{elsewhere}");
    desk.sh(&format!("skopeo logout {host}/team")).unwrap();
    let ended = desk.gantry_in("fourth", &format!("pull {target}")).unwrap();
    assert_eq!(ended.status, Some(5), "{ended}");
    for (said, where_) in [(&wrong, "wrong"), (&again, "again")] {
        assert!(!said.all_output().contains("geheim"), "{where_}: {said}");
    }
}

#[test]
fn a_registry_with_a_token_server() {
    let desk = desk_with_image();
    let tokens = TokenServer::start("ops", "geheim").unwrap();
    let guard = Guard {
        token: Some(tokens.guard()),
        ..Guard::default()
    };
    let registry = Registry::start(&desk.folder().join("registry"), &guard).unwrap();
    let host = registry.host();
    let target = format!("{host}/team/demo:v1");

    let nobody = desk.gantry(&format!("push demo:v1 {target} --insecure")).unwrap();
    assert_eq!(nobody.status, Some(5), "{nobody}");
    assert!(nobody.stderr.contains("nobody knows you here"), "{nobody}");
    desk.gantry(&format!("login {host} -u ops -p geheim --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    let before = tokens.asked().len();
    desk.gantry(&format!("push demo:v1 {target} --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(
        tokens.asked().len() - before,
        1,
        "one token does for one push: {:?}",
        tokens.asked()
    );
    let mounted = desk
        .gantry(&format!("push demo:v1 {host}/mine/demo:v1 --insecure"))
        .unwrap();
    assert!(mounted.stderr.contains("3 from another repository"), "{mounted}");
    desk.gantry_in("other", &format!("pull {target} --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    desk.sh(&format!("skopeo inspect --tls-verify=false docker://{target}"))
        .unwrap();
}

#[test]
fn images_put_together_are_one_list_for_everybody() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let host = registry.host();
    desk.gantry("build -t arm:v1 --platform linux/arm64 context")
        .unwrap()
        .ok()
        .unwrap();
    let created = desk.gantry("manifest create both:v1 demo:v1 arm:v1").unwrap();
    let printed = created.ok().unwrap();
    let again = desk.gantry("manifest add both:v1 arm:v1").unwrap();
    assert_eq!(again.status, Some(2), "{again}");
    assert!(
        again.stderr.contains("has one for linux/arm64 already"),
        "{again}"
    );
    let listed = desk.gantry("manifest inspect both:v1").unwrap().ok().unwrap();
    assert!(
        listed.contains("linux/amd64") && listed.contains("linux/arm64"),
        "{listed}"
    );
    let pushed = desk
        .gantry(&format!("manifest push both:v1 {host}/team/both:v1 --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(digest(&pushed), digest(&printed));
    for architecture in ["amd64", "arm64"] {
        let seen = desk.sh(&format!(
            "skopeo inspect --tls-verify=false --override-arch {architecture} --format '{{{{.Architecture}}}}' docker://{host}/team/both:v1"
        ));
        assert_eq!(seen.unwrap().trim(), architecture);
        let podman = "podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver vfs";
        let seen = desk.sh(&format!(
            "id=$({podman} pull --quiet --tls-verify=false --arch {architecture} {host}/team/both:v1)\n\
             {podman} image inspect --format '{{{{.Architecture}}}}' $id"
        ));
        assert_eq!(seen.unwrap().trim(), architecture);
    }
    // Archives hold all of it, or one of its platforms.
    desk.gantry("save -o both.tar both:v1").unwrap().ok().unwrap();
    desk.gantry("save -o arm.tar --platform linux/arm64 both:v1")
        .unwrap()
        .ok()
        .unwrap();
    let loaded = desk.gantry_in("there", "load both.tar").unwrap().ok().unwrap();
    assert_eq!(digest(&loaded), digest(&printed));
    let arm = desk.sh("skopeo inspect --format '{{.Architecture}}' oci-archive:arm.tar");
    assert_eq!(arm.unwrap().trim(), "arm64");
    desk.gantry("manifest remove both:v1 linux/amd64")
        .unwrap()
        .ok()
        .unwrap();
    let left = desk.gantry("manifest inspect both:v1").unwrap().ok().unwrap();
    assert!(!left.contains("linux/amd64"), "{left}");
}
