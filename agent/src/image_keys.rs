//! This module owns [`ImageKeys`]: the keys that orchestrators brought to this host, by which its policy accepts images if it says so.
//!
//! One file of PEM, for policies to name ([`gantry_signing::HOST_KEYS_PATH`]). Before each key stands who brought it, by the certificate
//! that was shown last: when that is believed no more, or has ended, the key goes, too. Keys that the host's owner put there stay. Whoever
//! brings one key after another, as by a new `--root` for each job, loses the oldest of them when there is no room.
//!
//! ```text
//! Operator: orchestrator
//! Certificate: 5f8f…
//! Issuer: Gantry CA 12ab34cd
//! Ends: 2027-11-27T18:43:18Z
//! -----BEGIN PUBLIC KEY-----
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use gantry_signing::{KeyError, MAX_KEYS_OF_FILE, VerificationKey};
use gantry_system::files::write_atomically;
use gantry_transport::{PeerIdentity, Trust};
use jiff::Timestamp;

/// What a block of a key ends with (RFC 7468).
const END: &str = "-----END PUBLIC KEY-----";
/// Public: whoever may look at the policy may look at its keys.
const MODE: u32 = 0o644;

/// Why the keys cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum ImageKeysError {
    /// What came is no key.
    #[error("what came is not a key that images are verified with: {0}")]
    NoKey(#[source] KeyError),
    /// What is there are none.
    #[error("{} has something else than keys: {source}; remove it, and orchestrators bring their keys again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// There is no room.
    #[error("{} has {MAX_KEYS_OF_FILE} keys of others already; take out what is not needed any more", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The file.
#[derive(Debug)]
pub struct ImageKeys {
    path: PathBuf,
    /// Held while the file changes.
    changing: Mutex<()>,
}

/// A key and who brought it, if somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    key: VerificationKey,
    bringer: Option<Bringer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bringer {
    operator: String,
    certificate: String,
    issuer: String,
    /// When the certificate ends; agents of before did not write it down.
    ends: Option<Timestamp>,
}

impl ImageKeys {
    /// The keys in the file at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            changing: Mutex::new(()),
        }
    }

    /// Adds the key in `text` (PEM), which `peer` brings; those of others stay. Where there is no room, the oldest that the same
    /// operator brought makes it. Whether the key was not there before.
    ///
    /// # Errors
    /// When it is no key, there are too many of others, or the file cannot be written.
    pub fn add(&self, text: &str, peer: &PeerIdentity) -> Result<bool, ImageKeysError> {
        let key: VerificationKey = text.parse().map_err(ImageKeysError::NoKey)?;
        let bringer = Bringer::of(peer);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.read()?;
        let mut entries = before.clone();
        let known = entries.iter().position(|entry| entry.key == key);
        match known {
            // The owner of the host put it there: it is nobody else's to take away.
            Some(at) if entries[at].bringer.is_none() => {}
            Some(at) => entries[at].bringer = Some(bringer),
            None => {
                if entries.len() >= MAX_KEYS_OF_FILE {
                    // By the name: the certificate is another one after each renewal.
                    let oldest = entries.iter().position(|entry| {
                        let of = entry.bringer.as_ref();
                        of.is_some_and(|of| of.operator == bringer.operator)
                    });
                    let path = || self.path.clone();
                    entries.remove(oldest.ok_or_else(|| ImageKeysError::Full { path: path() })?);
                }
                let bringer = Some(bringer);
                entries.push(Entry { key, bringer });
            }
        }
        if entries != before {
            self.write(&entries)?;
        }
        Ok(known.is_none())
    }

    /// Drops the keys of those whose certificates `trust` does not believe any more, or that have ended by `now`. Gives how many.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn keep_trusted(&self, trust: &Trust, now: SystemTime) -> Result<usize, ImageKeysError> {
        self.keep(|bringer| {
            let is_trusted = trust.names().any(|name| name == bringer.issuer);
            is_trusted && !trust.revokes(&bringer.certificate) && !bringer.has_ended(now)
        })
    }

    /// Drops the keys whose bringers' certificates have ended by `now`: renewed ones bring them again. Gives how many.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn drop_ended(&self, now: SystemTime) -> Result<usize, ImageKeysError> {
        self.keep(|bringer| !bringer.has_ended(now))
    }

    /// Drops all that somebody brought. Gives how many.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn keep_owners(&self) -> Result<usize, ImageKeysError> {
        self.keep(|_| false)
    }

    fn keep(&self, is_kept: impl Fn(&Bringer) -> bool) -> Result<usize, ImageKeysError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = self.read()?;
        let before = entries.len();
        entries.retain(|entry| entry.bringer.as_ref().is_none_or(&is_kept));
        let dropped = before - entries.len();
        if dropped > 0 {
            self.write(&entries)?;
        }
        Ok(dropped)
    }

    fn read(&self) -> Result<Vec<Entry>, ImageKeysError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(self.failed("read", error)),
        };
        let blocks = text.split_inclusive(END).filter(|block| block.contains(END));
        let entry = |block: &str| {
            let key = block.parse().map_err(|source| ImageKeysError::Damaged {
                path: self.path.clone(),
                source,
            })?;
            let bringer = Bringer::said_in(block);
            Ok(Entry { key, bringer })
        };
        blocks.map(entry).collect()
    }

    fn write(&self, entries: &[Entry]) -> Result<(), ImageKeysError> {
        if entries.is_empty() {
            return fs::remove_file(&self.path).map_err(|error| self.failed("remove", error));
        }
        let mut text = String::new();
        for Entry { key, bringer } in entries {
            if let Some(bringer) = bringer {
                bringer.say(&mut text);
            }
            text.push_str(&key.to_pem());
        }
        write_atomically(&self.path, text.as_bytes(), MODE).map_err(|error| self.failed("write", error))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> ImageKeysError {
        let path = self.path.clone();
        ImageKeysError::Io { doing, path, source }
    }
}

impl Bringer {
    fn of(peer: &PeerIdentity) -> Self {
        // Each is a line.
        let line = |text: &str| text.chars().filter(|c| !c.is_control()).collect();
        Self {
            operator: line(&peer.name),
            certificate: line(&peer.serial),
            issuer: line(&peer.ca),
            ends: seconds(peer.not_after),
        }
    }

    fn has_ended(&self, now: SystemTime) -> bool {
        self.ends
            .is_some_and(|ends| seconds(now).is_some_and(|now| now > ends))
    }

    fn said_in(block: &str) -> Option<Self> {
        let said = |name: &str| {
            let mut values = block.lines().filter_map(|line| line.strip_prefix(name));
            values.next().map(|value| value.trim().to_owned())
        };
        Some(Self {
            operator: said("Operator:")?,
            certificate: said("Certificate:")?,
            issuer: said("Issuer:")?,
            ends: said("Ends:").and_then(|time| time.parse().ok()),
        })
    }

    fn say(&self, text: &mut String) {
        let Self {
            operator,
            certificate,
            issuer,
            ends,
        } = self;
        writeln!(
            text,
            "Operator: {operator}\nCertificate: {certificate}\nIssuer: {issuer}"
        )
        .expect("a text takes whatever is written");
        if let Some(ends) = ends {
            writeln!(text, "Ends: {ends}").expect("a text takes whatever is written");
        }
    }
}

/// A time as it is written down: to the second.
fn seconds(time: SystemTime) -> Option<Timestamp> {
    let time = Timestamp::try_from(time).ok()?;
    Timestamp::from_second(time.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_signing::{KeyKind, SigningKey};
    use gantry_transport::{Authority, Role};

    use super::*;

    struct Case {
        folder: tempfile::TempDir,
        authority: Authority,
        keys: ImageKeys,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let authority = Authority::open_or_create(&folder.path().join("pki")).unwrap();
            let keys = ImageKeys::new(&folder.path().join("image-keys.pem"));
            Self {
                folder,
                authority,
                keys,
            }
        }

        fn operator(&self, name: &str) -> PeerIdentity {
            let identity = self.authority.issue_operator(name, Role::Operator).unwrap();
            PeerIdentity {
                name: name.into(),
                role: Role::Operator,
                serial: identity.serial().into(),
                ca: self.authority.name().unwrap(),
                not_after: identity.not_after(),
            }
        }

        fn text(&self) -> String {
            fs::read_to_string(self.folder.path().join("image-keys.pem")).unwrap()
        }

        fn held(&self) -> Vec<VerificationKey> {
            VerificationKey::parse_all(&self.text()).unwrap()
        }
    }

    fn key() -> VerificationKey {
        SigningKey::generate(KeyKind::EcdsaP256)
            .unwrap()
            .0
            .verification_key()
    }

    #[test]
    fn everybody_adds_a_key_and_drops_nobody_elses() {
        let case = Case::new();
        let (ann, bob) = (case.operator("ann"), case.operator("bob"));
        let (first, second) = (key(), key());
        assert!(case.keys.add(&first.to_pem(), &ann).unwrap());
        assert!(case.keys.add(&second.to_pem(), &bob).unwrap());
        let text = case.text();
        assert!(!case.keys.add(&first.to_pem(), &ann).unwrap());
        assert_eq!(case.text(), text);
        assert_eq!(case.held(), [first, second]);
        for line in ["Operator: ann", &format!("Certificate: {}", bob.serial)] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_key_goes_with_the_certificate_that_it_was_brought_with_last() {
        let case = Case::new();
        let (ann, bob) = (case.operator("ann"), case.operator("bob"));
        let (of_ann, of_bob, of_owner) = (key(), key(), key());
        let path = case.folder.path().join("image-keys.pem");
        fs::write(&path, format!("put here by hand\n{}", of_owner.to_pem())).unwrap();
        case.keys.add(&of_ann.to_pem(), &ann).unwrap();
        case.keys.add(&of_bob.to_pem(), &bob).unwrap();
        let trust = || case.authority.trust().unwrap();
        let now = SystemTime::now();
        assert_eq!(case.keys.keep_trusted(&trust(), now).unwrap(), 0);
        case.authority.revoke(&ann.serial).unwrap();
        assert_eq!(case.keys.keep_trusted(&trust(), now).unwrap(), 1);
        assert_eq!(case.held(), [of_owner.clone(), of_bob.clone()]);
        // With another certificate it comes again, and stays when the one of before is taken back.
        let again = case.operator("bob");
        case.keys.add(&of_bob.to_pem(), &again).unwrap();
        case.authority.revoke(&bob.serial).unwrap();
        assert_eq!(case.keys.keep_trusted(&trust(), now).unwrap(), 0);
        // Another CA, which knows nobody of before.
        let other = Authority::open_or_create(&case.folder.path().join("other")).unwrap();
        assert_eq!(case.keys.keep_trusted(&other.trust().unwrap(), now).unwrap(), 1);
        assert_eq!(case.held(), std::slice::from_ref(&of_owner));
        case.keys.add(&of_ann.to_pem(), &again).unwrap();
        assert_eq!(case.keys.keep_owners().unwrap(), 1);
        assert_eq!(case.held(), [of_owner]);
    }

    #[test]
    fn a_key_goes_when_the_certificate_that_it_was_brought_with_last_has_ended() {
        let case = Case::new();
        let (ann, bob) = (case.operator("ann"), case.operator("bob"));
        let (of_ann, of_bob, of_owner) = (key(), key(), key());
        let path = case.folder.path().join("image-keys.pem");
        fs::write(&path, of_owner.to_pem()).unwrap();
        case.keys.add(&of_ann.to_pem(), &ann).unwrap();
        case.keys.add(&of_bob.to_pem(), &bob).unwrap();
        let renewed = PeerIdentity {
            not_after: bob.not_after + Duration::from_secs(60),
            ..bob.clone()
        };
        case.keys.add(&of_bob.to_pem(), &renewed).unwrap();
        assert_eq!(case.keys.drop_ended(ann.not_after).unwrap(), 0);
        let later = bob.not_after + Duration::from_secs(30);
        let trust = case.authority.trust().unwrap();
        assert_eq!(case.keys.keep_trusted(&trust, later).unwrap(), 1);
        assert_eq!(case.held(), [of_owner.clone(), of_bob]);
        assert_eq!(case.keys.drop_ended(later + Duration::from_secs(60)).unwrap(), 1);
        assert_eq!(case.held(), std::slice::from_ref(&of_owner));
        // As agents of before wrote it.
        case.keys.add(&of_ann.to_pem(), &ann).unwrap();
        let lines: Vec<_> = case.text().lines().map(str::to_owned).collect();
        let without = lines.iter().filter(|line| !line.starts_with("Ends: "));
        let text: String = without.map(|line| format!("{line}\n")).collect();
        fs::write(&path, text).unwrap();
        assert_eq!(case.keys.drop_ended(later).unwrap(), 0);
        assert_eq!(case.held(), [of_owner, of_ann]);
    }

    /// As where every job of a CI has a store of its own, and so a key.
    #[test]
    fn one_key_too_many_takes_the_place_of_the_oldest_of_the_same_operator() {
        let case = Case::new();
        let (ann, bob) = (case.operator("ann"), case.operator("bob"));
        let (of_owner, of_bob) = (key(), key());
        fs::write(case.folder.path().join("image-keys.pem"), of_owner.to_pem()).unwrap();
        case.keys.add(&of_bob.to_pem(), &bob).unwrap();
        let many: Vec<_> = (0..MAX_KEYS_OF_FILE).map(|_| key()).collect();
        for key in &many {
            // Another certificate each time is the same operator.
            assert!(case.keys.add(&key.to_pem(), &case.operator("ann")).unwrap());
        }
        let mut held = vec![of_owner, of_bob];
        held.extend_from_slice(&many[2..]);
        assert_eq!(case.held(), held);
        // What is still there makes no room.
        assert!(!case.keys.add(&many[2].to_pem(), &ann).unwrap());
        assert_eq!(case.held(), held);
    }

    #[test]
    fn what_is_no_key_or_too_much_changes_nothing() {
        let case = Case::new();
        let ann = case.operator("ann");
        let (_, text) = SigningKey::generate(KeyKind::Ed25519).unwrap();
        for wrong in ["", "not a key", &text] {
            let refused = case.keys.add(wrong, &ann);
            assert!(matches!(refused, Err(ImageKeysError::NoKey(_))), "{wrong}");
        }
        assert!(!case.folder.path().join("image-keys.pem").exists());
        let many: Vec<_> = (0..MAX_KEYS_OF_FILE).map(|_| key()).collect();
        for key in &many {
            case.keys.add(&key.to_pem(), &ann).unwrap();
        }
        let bob = case.operator("bob");
        let refused = case.keys.add(&key().to_pem(), &bob);
        assert!(matches!(refused, Err(ImageKeysError::Full { .. })), "{refused:?}");
        case.keys.add(&many[3].to_pem(), &ann).unwrap();
        assert_eq!(case.held(), many);
        let damaged = case.text().replacen("\nM", "\n!", 1);
        fs::write(case.folder.path().join("image-keys.pem"), damaged).unwrap();
        let refused = case.keys.add(&many[3].to_pem(), &ann);
        assert!(
            matches!(refused, Err(ImageKeysError::Damaged { .. })),
            "{refused:?}"
        );
    }
}
