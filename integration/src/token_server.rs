//! A small token server for registries (distribution's token authentication): one user, tokens signed with ES256.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;

use crate::registry::SERVICE;

/// The token server; it ends with the program.
#[derive(Debug)]
pub struct TokenServer {
    realm: String,
    certificate: String,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Signer {
    key: EcdsaKeyPair,
    /// The certificate of the key, base64 of its DER form.
    chain: String,
    /// `Basic …` of the one user.
    user: String,
}

impl TokenServer {
    /// Starts one that knows one user; everybody else gets no token.
    ///
    /// # Errors
    /// When no key can be made, or no port is free.
    pub fn start(user: &str, password: &str) -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec!["token.test".to_owned()])?.self_signed(&key)?;
        let random = SystemRandom::new();
        let signer = Signer {
            key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &random)
                .map_err(|error| anyhow!("the key is refused: {error}"))?,
            chain: STANDARD.encode(certificate.der()),
            user: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
        };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let realm = format!("http://{}/token", listener.local_addr()?);
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(line) = signer.answer(stream) {
                    seen.lock().expect("nobody panics with it").push(line);
                }
            }
        });
        Ok(Self {
            realm,
            certificate: certificate.pem(),
            asked,
        })
    }

    /// What a registry has to be told: the address, and the certificate of the key that signs.
    #[must_use]
    pub fn guard(&self) -> (String, String) {
        (self.realm.clone(), self.certificate.clone())
    }

    /// The first lines of all requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

impl Signer {
    fn answer(&self, stream: TcpStream) -> Result<String> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().context("no request")??;
        let mut known = false;
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let value = line
                .split_once(": ")
                .map(|(name, value)| (name.to_ascii_lowercase(), value));
            known |= value == Some(("authorization".to_owned(), &self.user));
        }
        let (status, body) = if known {
            (
                "200 OK",
                json!({ "token": self.token(&first)?, "expires_in": 300 }),
            )
        } else {
            ("401 Unauthorized", json!({ "details": "nobody knows you here" }))
        };
        let body = body.to_string();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        Ok(first)
    }

    /// A JSON web token that allows what the request's scopes ask for.
    fn token(&self, request: &str) -> Result<String> {
        let target = request.split(' ').nth(1).unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mut access = Vec::new();
        for scope in query.split('&').filter_map(|pair| pair.strip_prefix("scope=")) {
            let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
            let parts: Vec<&str> = scope.split(':').collect();
            if let [kind, name, actions] = parts[..] {
                let actions: Vec<&str> = actions.split(',').collect();
                access.push(json!({ "type": kind, "name": name, "actions": actions }));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [self.chain] });
        let claims = json!({
            "iss": SERVICE, "sub": "somebody", "aud": SERVICE, "jti": format!("{now}"),
            "iat": now, "nbf": now - 60, "exp": now + 300, "access": access,
        });
        let encoded = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|error| anyhow!("the token cannot be signed: {error}"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
