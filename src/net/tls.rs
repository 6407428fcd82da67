//! TLS for connections: certificates out of the configuration's files, and the handshake.
//!
//! The files are read when the server starts and when `CONFIG SET` names a directive of TLS, also with the value that it
//! has: so a renewed certificate needs no restart. Connections that are there keep what they began with. What cannot be
//! read or does not fit together changes nothing.
//!
//! Versions and ciphers are those of rustls: TLS 1.2 and 1.3, and none that are known to be weak.

use crate::config::{Config, TlsClients};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE_MOST: Duration = Duration::from_secs(10);

/// Why there is no TLS.
#[derive(Debug)]
pub enum TlsError {
    /// A directive that is needed is not set.
    Missing(&'static str),
    /// A file cannot be read, or does not hold what it should.
    File {
        path: PathBuf,
        why: String,
    },
    Protocols(String),
    Rustls(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Missing(what) => write!(f, "TLS needs {what}"),
            TlsError::File { path, why } => write!(f, "{}: {why}", path.display()),
            TlsError::Protocols(text) => write!(
                f,
                "tls-protocols '{text}': a combination of TLSv1.2 and TLSv1.3 is needed; older versions are not offered"
            ),
            TlsError::Rustls(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TlsError {}

/// What connections on the TLS port are offered, as the configuration says; none without such a port.
pub fn server_config(config: &Config) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    if config.tls_port == 0 {
        return Ok(None);
    }
    let (certificates, key) = certificate(config)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = versions(&config.tls_protocols)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| TlsError::Rustls(error.to_string()))?;
    let builder = match config.tls_auth_clients {
        TlsClients::No => builder.with_no_client_auth(),
        wanted => {
            let roots = Arc::new(authorities(config)?);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            if wanted == TlsClients::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier
                .build()
                .map_err(|error| TlsError::Rustls(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut offered = builder
        .with_single_cert(certificates, key)
        .map_err(|error| TlsError::File {
            path: PathBuf::from(&config.tls_key_file),
            why: error.to_string(),
        })?;
    offered.ignore_client_order = config.tls_prefer_server_ciphers;
    offered.session_storage = match config.tls_session_caching {
        true => ServerSessionMemoryCache::new(config.tls_session_cache_size),
        false => Arc::new(NoServerSessionStorage {}),
    };
    Ok(Some(Arc::new(offered)))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The server's certificate, with those that it follows from, and its key; one file may hold both.
fn certificate(config: &Config) -> Result<Identity, TlsError> {
    if config.tls_cert_file.is_empty() {
        return Err(TlsError::Missing("tls-cert-file"));
    }
    let key_file = match config.tls_key_file.as_str() {
        "" => &config.tls_cert_file,
        file => file,
    };
    let certificates = certificates(Path::new(&config.tls_cert_file))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| TlsError::File {
        path: key_file.into(),
        why: format!("no key can be read from it (keys with a password are not supported): {error}"),
    })?;
    Ok((certificates, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::File {
        path: path.to_owned(),
        why,
    };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let read: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    match read.is_empty() {
        true => Err(wrong("there is no certificate in it".into())),
        false => Ok(read),
    }
}

/// The authorities whose word on clients counts.
fn authorities(config: &Config) -> Result<RootCertStore, TlsError> {
    let mut files = Vec::new();
    if !config.tls_ca_cert_file.is_empty() {
        files.push(PathBuf::from(&config.tls_ca_cert_file));
    }
    if !config.tls_ca_cert_dir.is_empty() {
        let folder = Path::new(&config.tls_ca_cert_dir);
        let entries = std::fs::read_dir(folder).map_err(|error| TlsError::File {
            path: folder.to_owned(),
            why: error.to_string(),
        })?;
        let paths = entries.flatten().map(|entry| entry.path());
        files.extend(paths.filter(|path| path.is_file()));
    }
    if files.is_empty() {
        return Err(TlsError::Missing(
            "tls-ca-cert-file or tls-ca-cert-dir, as tls-auth-clients is not no",
        ));
    }
    let mut roots = RootCertStore::empty();
    for file in files {
        for certificate in certificates(&file)? {
            roots.add(certificate).map_err(|error| TlsError::File {
                path: file.clone(),
                why: error.to_string(),
            })?;
        }
    }
    Ok(roots)
}

/// The versions that a list of names asks for; an empty one asks for all.
fn versions(text: &str) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let wrong = || TlsError::Protocols(text.to_owned());
    let mut wanted = Vec::new();
    for name in text.split_ascii_whitespace() {
        match name.to_ascii_lowercase().as_str() {
            "tlsv1.2" => wanted.push(&TLS12),
            "tlsv1.3" => wanted.push(&TLS13),
            "tlsv1" | "tlsv1.1" => {}
            _ => return Err(wrong()),
        }
    }
    match (text.trim().is_empty(), wanted.is_empty()) {
        (true, _) => Ok(vec![&TLS13, &TLS12]),
        (false, true) => Err(wrong()),
        (false, false) => Ok(wanted),
    }
}

/// The handshake; an error says why there is no connection.
pub async fn accept(stream: TcpStream, offered: Arc<ServerConfig>) -> Result<TlsStream<TcpStream>, String> {
    let handshake = TlsAcceptor::from(offered).accept(stream);
    match tokio::time::timeout(HANDSHAKE_MOST, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the handshake took too long".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_as_openssl_names_them() {
        let named = |text: &str| versions(text).map(|versions| versions.len()).ok();
        assert_eq!(named(""), Some(2));
        assert_eq!(named("TLSv1.3"), Some(1));
        assert_eq!(named("tlsv1.1 TLSv1.2 TLSv1.3"), Some(2));
        assert_eq!(named("TLSv1.1"), None);
        assert_eq!(named("SSLv3"), None);
    }

    #[test]
    fn without_a_port_nothing_is_read() {
        let mut config = Config::default();
        config.tls_cert_file = "/nosuch".into();
        assert!(server_config(&config).unwrap().is_none());
        config.tls_port = 1;
        assert!(
            server_config(&config)
                .unwrap_err()
                .to_string()
                .starts_with("/nosuch: ")
        );
        config.tls_cert_file.clear();
        assert!(
            server_config(&config)
                .unwrap_err()
                .to_string()
                .contains("tls-cert-file")
        );
    }
}
