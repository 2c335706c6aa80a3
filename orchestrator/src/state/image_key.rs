//! The key that this orchestrator signs images with: beside its CA, in a file that its owner alone reads.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;
use gantry_model::ExitCode;
use gantry_signing::{KeyKind, MAX_KEY_FILE_LEN, SigningKey};
use gantry_system::files::{FileLock, write_atomically};

use super::{SECRET_MODE, State, create_dir};
use crate::exit::{OrExit as _, failure};

impl State {
    /// The key that images are signed with, made now if there is none.
    ///
    /// # Errors
    /// When its file is damaged or cannot be written.
    pub fn image_key_or_create(&self) -> anyhow::Result<SigningKey> {
        create_dir(&self.pki_dir())?;
        let lock = self.pki_dir().join("images.lock");
        let _one_is_made = FileLock::exclusive(&lock)
            .with_context(|| format!("cannot lock {}", lock.display()))
            .or_exit(ExitCode::Failed)?;
        if let Some(key) = self.image_key()? {
            return Ok(key);
        }
        let made = SigningKey::generate(KeyKind::EcdsaP256);
        let (key, text) = made.map_err(|error| failure(ExitCode::Failed, error))?;
        let path = self.image_key_path();
        write_atomically(&path, text.as_bytes(), SECRET_MODE)
            .with_context(|| format!("cannot write {}", path.display()))
            .or_exit(ExitCode::Failed)?;
        Ok(key)
    }

    /// The key that images are signed with, if one was made.
    ///
    /// # Errors
    /// When its file cannot be read or is damaged.
    pub fn image_key(&self) -> anyhow::Result<Option<SigningKey>> {
        let path = self.image_key_path();
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MAX_KEY_FILE_LEN).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read {}", path.display()))
                    .or_exit(ExitCode::Failed);
            }
        }
        let key = text.parse::<SigningKey>();
        key.map(Some)
            .with_context(|| format!("{} is damaged", path.display()))
            .or_exit_hint(
                ExitCode::Failed,
                "put it back from a backup; or move it away, and sign images anew by the key that is made then (`gantry sign IMAGE`)",
            )
    }

    fn image_key_path(&self) -> PathBuf {
        self.pki_dir().join("images.key.pem")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn there_is_one_key_which_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        assert!(state.image_key().unwrap().is_none());
        let makers: Vec<_> = (0..4)
            .map(|_| {
                let state = state.clone();
                std::thread::spawn(move || state.image_key_or_create().unwrap().verification_key())
            })
            .collect();
        let made: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
        let key = state.image_key().unwrap().unwrap().verification_key();
        assert!(made.iter().all(|one| *one == key));
        let path = folder.path().join("orchestrator/pki/images.key.pem");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "-----BEGIN PRIVATE KEY-----").unwrap();
        let error = format!("{:#}", state.image_key_or_create().unwrap_err());
        assert!(error.contains("images.key.pem is damaged"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "-----BEGIN PRIVATE KEY-----");
    }
}
