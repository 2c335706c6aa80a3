//! The authority: what agents take, and a CA that is replaced, stopped after each of its steps.

use super::*;
use crate::trust::Trust;

/// The authority in a folder, opened anew as every command does.
struct Pki(tempfile::TempDir);

impl Pki {
    fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        Authority::open_or_create(&pki.dir()).unwrap();
        pki
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("pki")
    }

    fn open(&self) -> Authority {
        Authority::open(&self.dir()).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn names(trust: &Trust) -> Vec<&str> {
    trust.names().collect()
}

#[test]
fn a_ca_is_replaced_step_by_step_and_every_step_is_found_again() {
    let pki = Pki::new();
    let first = pki.open();
    let old = first.name().unwrap();
    assert_eq!(first.rotation(), Rotation::Settled);
    first.revoke("40aa").unwrap();
    first.issue_operator("ann", Role::Operator).unwrap();
    assert!(first.drop_replaced().is_err() && first.finish_rotation().is_err());

    first.begin_rotation().unwrap();
    let both = pki.open();
    let new = both.name().unwrap();
    assert_ne!(old, new);
    assert_eq!(
        (both.rotation(), both.replaced()),
        (Rotation::Overlap, Some(old.clone()))
    );
    assert_eq!(names(&both.trust().unwrap()), [new.as_str(), old.as_str()]);
    assert_eq!(
        both.begin_rotation().unwrap().name().unwrap(),
        new,
        "it has begun already"
    );
    assert!(both.finish_rotation().is_err(), "nothing was dropped");
    // What was taken back stays so, by either CA's list.
    let identity = both.issue_operator("ann", Role::Operator).unwrap();
    assert!(identity.is_revoked("40aa") && both.is_revoked("40aa").unwrap());
    assert_eq!(identity.ca(), new);
    assert_eq!(both.issued().unwrap().last().unwrap().ca, new);
    let holding = |authority: &Authority| authority.holding().unwrap().len();
    assert_eq!(holding(&both), 2, "of either CA");

    both.drop_replaced().unwrap();
    let dropping = pki.open();
    assert_eq!(dropping.rotation(), Rotation::Dropping);
    assert_eq!(names(&dropping.trust().unwrap()), [new.as_str()]);
    assert_eq!(
        names(&dropping.own_trust().unwrap()),
        [new.as_str(), old.as_str()]
    );
    assert!(
        !pki.files().contains(&"ca.key.pem".to_owned()),
        "its key is destroyed"
    );
    assert_eq!(holding(&dropping), 1, "of the new CA");
    dropping.revoke("40bb").unwrap();

    dropping.finish_rotation().unwrap();
    let settled = pki.open();
    assert_eq!(settled.rotation(), Rotation::Settled);
    assert_eq!(settled.name().unwrap(), new);
    assert!(settled.is_revoked("40aa").unwrap() && settled.is_revoked("40bb").unwrap());
    assert_eq!(
        pki.files(),
        [
            "ca-2.key.pem",
            "ca-2.pem",
            "crl-2.der",
            "issued.jsonl",
            "lock",
            "revoked.json",
            "rotation.json"
        ]
    );
    // And once more.
    let third = settled.begin_rotation().unwrap();
    assert_eq!(third.replaced(), Some(new));
    assert_eq!(
        Authority::open_or_create(&pki.dir()).unwrap().name().unwrap(),
        third.name().unwrap()
    );
}

#[test]
fn what_a_killed_beginning_left_is_no_rotation_and_is_in_nobodys_way() {
    let pki = Pki::new();
    let old = pki.open().name().unwrap();
    fs::write(pki.dir().join("ca-2.key.pem"), "half a k").unwrap();
    fs::write(pki.dir().join("crl-2.der"), "of another CA").unwrap();
    let authority = pki.open();
    assert_eq!(
        (authority.rotation(), authority.name().unwrap()),
        (Rotation::Settled, old)
    );
    let begun = authority.begin_rotation().unwrap();
    assert_eq!(begun.rotation(), Rotation::Overlap);
    assert!(begun.trust().is_ok());
}

#[test]
fn an_authority_that_was_replaced_meanwhile_signs_and_revokes_nothing() {
    let pki = Pki::new();
    let stale = pki.open();
    pki.open().begin_rotation().unwrap();
    for error in [
        stale.issue_operator("ann", Role::Reader).unwrap_err(),
        stale.revoke("40aa").unwrap_err(),
        stale.begin_rotation().unwrap_err(),
    ] {
        assert!(error.to_string().contains("was replaced"), "{error}");
    }
}

#[test]
fn a_revocation_that_was_cut_off_before_its_list_is_whole_when_it_is_made_again() {
    let pki = Pki::new();
    let overlap = pki.open().begin_rotation().unwrap();
    let lists = || -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(pki.dir()).unwrap().map(|file| file.unwrap().path());
        let mut lists: Vec<_> = files
            .filter(|path| path.to_string_lossy().contains("crl"))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        lists.sort();
        lists
    };
    overlap.revoke("40aa").unwrap();
    let before = lists();
    assert_eq!(before.len(), 2, "{before:?}");
    overlap.revoke("40bb").unwrap();
    // The record is written first, then the list of the CA that goes, then that of the one that signs.
    for cut in 0..=before.len() {
        for (path, list) in &before[..cut] {
            fs::write(path, list).unwrap();
        }
        assert!(overlap.is_revoked("40bb").unwrap());
        overlap.revoke("40bb").unwrap();
        let trust = overlap.trust().unwrap();
        assert!(trust.revokes("40aa") && trust.revokes("40bb"));
        for (path, list) in lists() {
            assert!(list.len() > before[0].1.len(), "{}", path.display());
        }
    }
}

#[test]
fn no_list_is_made_that_hosts_would_not_take() {
    let pki = Pki::new();
    let authority = pki.open();
    authority.revoke("40aa").unwrap();
    let path = pki.dir().join("revoked.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let many = (0..20_000).map(|n| serde_json::json!([format!("41{n:036x}"), 1]));
    record["certificates"] = many.collect();
    let text = serde_json::to_vec(&record).unwrap();
    fs::write(&path, &text).unwrap();
    let (list, error) = (authority.crl().unwrap(), authority.revoke("40bb").unwrap_err());
    assert!(error.to_string().contains("nothing was revoked"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), text);
    assert_eq!(authority.crl().unwrap(), list);
    // What is made travels, twice: as long as the longest that is.
    let fits = (0..7_000).map(|n| serde_json::json!([format!("41{n:036x}"), 1]));
    record["certificates"] = fits.collect();
    fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    let overlap = authority.begin_rotation().unwrap();
    overlap.revoke("40bb").unwrap();
    let text = overlap.trust().unwrap().to_pem();
    assert!(Trust::read(text.as_bytes()).unwrap().revokes("40bb"));
}

#[test]
fn certificates_that_ended_go_from_the_lists_when_hosts_clocks_are_past_that() {
    let pki = Pki::new();
    let authority = pki.open();
    let now = seconds(SystemTime::now());
    let day = 24 * 3600;
    for (serial, ended) in [
        ("40aa", now - 31 * day),
        ("40bb", now - 29 * day),
        ("40cc", now + day),
    ] {
        let record = IssuedRecord {
            serial: serial.into(),
            role: "operator".into(),
            name: "ann".into(),
            issued_at: 1,
            not_after: ended,
            ca: authority.name().unwrap(),
        };
        authority.record(&record).unwrap();
    }
    // The last of them nobody wrote down.
    for serial in ["40aa", "40bb", "40cc", "40dd"] {
        authority.revoke(serial).unwrap();
    }
    let trust = authority.trust().unwrap();
    let on_the_list = |serial: &&str| trust.revokes(serial) && authority.is_revoked(serial).unwrap();
    let found: Vec<&str> = ["40aa", "40bb", "40cc", "40dd"]
        .into_iter()
        .filter(on_the_list)
        .collect();
    assert_eq!(found, ["40bb", "40cc", "40dd"]);
    // Nor does the list of a CA that is being replaced keep it.
    let rotating = authority.begin_rotation().unwrap();
    rotating.revoke("40ee").unwrap();
    let trust = rotating.trust().unwrap();
    assert!(trust.revokes("40bb") && !trust.revokes("40aa"));
}

#[test]
fn trust_comes_back_from_its_text_and_nothing_stray_is_in_it() {
    let pki = Pki::new();
    let first = pki.open();
    let alone = first.trust().unwrap();
    let both = first.begin_rotation().unwrap().trust().unwrap();
    let text = both.to_pem();
    assert_eq!(Trust::read(text.as_bytes()).unwrap().to_pem(), text);
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 3);
    assert_eq!(text.matches("BEGIN X509 CRL").count(), 2);

    let elsewhere = Pki::new();
    let stranger = elsewhere.open();
    let person = stranger.issue_operator("ann", Role::Operator).unwrap();
    let leaf = crate::identity::pem("CERTIFICATE", person.certificate());
    let without_old: String = text
        .split_inclusive("-----END CERTIFICATE-----\n")
        .enumerate()
        .filter(|(at, _)| *at != 1)
        .map(|(_, block)| block)
        .collect();
    let alone = alone.to_pem();
    for (wrong, why) in [
        (String::new(), "it has none"),
        (leaf.clone(), "is no CA"),
        (format!("{alone}{leaf}"), "is no CA"),
        (format!("{alone}{alone}"), "twice"),
        (without_old, "neither a CA nor a cross-certificate"),
        (
            format!("{alone}{}", crate::identity::pem("PRIVATE KEY", b"k")),
            "no place",
        ),
        (
            format!(
                "{alone}{}",
                crate::identity::pem("X509 CRL", &stranger.crl().unwrap())
            ),
            "revocation list cannot be used",
        ),
        (" ".repeat(crate::trust::MAX_TRUST_LEN + 1), "at most"),
    ] {
        let error = Trust::read(wrong.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}: {why}");
    }
}

#[test]
fn nobody_takes_a_trust_that_its_own_certificate_is_outside_of() {
    let pki = Pki::new();
    let first = pki.open();
    let agent = first.issue_operator("ann", Role::Operator).unwrap();
    let first_alone = first.trust().unwrap();
    let overlap = first.begin_rotation().unwrap();
    let early = agent.with_trust(overlap.trust_in_new().unwrap()).unwrap_err();
    assert!(early.to_string().contains("vouches for"), "{early}");
    let both = agent.with_trust(overlap.trust().unwrap()).unwrap();
    let early = both.with_trust(overlap.trust_in_new().unwrap()).unwrap_err();
    assert!(early.to_string().contains("a new certificate first"), "{early}");
    let renewed = overlap.renew(&both).unwrap();
    assert_eq!(
        (renewed.fingerprint(), renewed.ca()),
        (agent.fingerprint(), overlap.name().unwrap().as_str())
    );
    assert!(renewed.with_trust(overlap.trust_in_new().unwrap()).is_ok());
    // Who trusts the new CA alone does not come back to the old one, nor does anybody to a stranger's.
    let alone = renewed.with_trust(overlap.trust_in_new().unwrap()).unwrap();
    let back = alone
        .with_trust(overlap.trust().unwrap())
        .unwrap_err()
        .to_string();
    assert!(back.contains("no CA that is trusted here vouches for"), "{back}");
    let elsewhere = Pki::new();
    let foreign = format!(
        "{}{}",
        first_alone.to_pem(),
        elsewhere.open().trust().unwrap().to_pem()
    );
    let foreign = agent
        .with_trust(Trust::read(foreign.as_bytes()).unwrap())
        .unwrap_err();
    assert!(foreign.to_string().contains("vouches for"), "{foreign}");
    // A list that says less than the present one is not taken along.
    let before = overlap.trust().unwrap();
    overlap.revoke("40aa").unwrap();
    let knowing = renewed.with_trust(overlap.trust().unwrap()).unwrap();
    let error = knowing.with_trust(before).unwrap_err().to_string();
    assert!(error.contains("is older than"), "{error}");
}

#[test]
fn an_agent_takes_a_new_certificate_of_its_own_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(&folder.path().join("pki")).unwrap();
    let key = AgentKey::generate().unwrap();
    let request = CertificateParams::default()
        .serialize_request(key.pair())
        .unwrap();
    let first = authority.sign_agent(request.der(), "10.0.0.2").unwrap();
    let agent = Identity::new(key.der(), first.der.into(), authority.trust().unwrap()).unwrap();

    let asked = agent.signing_request().unwrap();
    let second = authority.sign_agent(&asked, "10.0.0.2").unwrap();
    let newer = agent.with_certificate(&second.der).unwrap();
    assert_eq!(
        (newer.name(), newer.serial()),
        ("10.0.0.2", second.serial.as_str())
    );
    assert_eq!(newer.fingerprint(), agent.fingerprint(), "the key stays");

    let other_name = authority.sign_agent(&asked, "10.0.0.3").unwrap();
    let other_key = CertificateParams::default()
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap();
    let other_key = authority.sign_agent(other_key.der(), "10.0.0.2").unwrap();
    let stranger = Authority::open_or_create(&folder.path().join("stranger")).unwrap();
    let forged = stranger.sign_agent(&asked, "10.0.0.2").unwrap();
    for (refused, why) in [
        (other_name, "10.0.0.3"),
        (other_key, "another key"),
        (forged, "did not sign it"),
    ] {
        let error = agent.with_certificate(&refused.der).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(authority.ends().unwrap() > SystemTime::now());
}
