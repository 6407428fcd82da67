//! TLS: the port, certificates, and what is asked of clients.

use super::{Directive, choice, int, kept, kinds, text, yes_no};
use crate::config::values::TlsClients;

const MAX_INT: i64 = i32::MAX as i64;

pub(super) static ROWS: &[Directive] = &[
    int!(
        "tls-port",
        tls_port,
        0,
        65535,
        "Port for TLS, on the addresses of `bind`; 0 is none."
    ),
    text!(
        "tls-cert-file",
        tls_cert_file,
        "Certificate of the server, with those that it follows from, in PEM. Setting any of these files, also to the \
         same, reads them again."
    ),
    text!(
        "tls-key-file",
        tls_key_file,
        "Key of that certificate; empty: it is in the same file."
    ),
    text!(
        "tls-ca-cert-file",
        tls_ca_cert_file,
        "Certificates of the authorities that clients' certificates come from."
    ),
    text!(
        "tls-ca-cert-dir",
        tls_ca_cert_dir,
        "Folder with files of such certificates."
    ),
    choice!(
        "tls-auth-clients",
        tls_auth_clients,
        TlsClients,
        "Whether clients need a certificate: `yes`, `no`, or `optional`: one that is shown must be good."
    ),
    text!(
        "tls-protocols",
        tls_protocols,
        "Versions to offer, of `TLSv1.2` and `TLSv1.3`; empty is both. Older ones are not offered."
    ),
    yes_no!(
        "tls-prefer-server-ciphers",
        tls_prefer_server_ciphers,
        "The server's order of ciphers counts, not the client's."
    ),
    yes_no!(
        "tls-session-caching",
        tls_session_caching,
        "Remember sessions, so that a client that comes again is served faster."
    ),
    int!(
        "tls-session-cache-size",
        tls_session_cache_size,
        0,
        MAX_INT,
        "Sessions to remember."
    ),
    kept!(
        "tls-session-cache-timeout",
        "300",
        kinds::count,
        "Seconds to remember them."
    )
    .without_effect(),
    kept!("tls-key-file-pass", "", kinds::any, "Password of that key.")
        .secret()
        .without_effect(),
    kept!(
        "tls-client-cert-file",
        "",
        kinds::any,
        "Certificate for outgoing connections."
    )
    .without_effect(),
    kept!("tls-client-key-file", "", kinds::any, "Key of that certificate.").without_effect(),
    kept!(
        "tls-client-key-file-pass",
        "",
        kinds::any,
        "Password of that key."
    )
    .secret()
    .without_effect(),
    kept!(
        "tls-dh-params-file",
        "",
        kinds::any,
        "Parameters for Diffie-Hellman."
    )
    .without_effect(),
    kept!("tls-ciphers", "", kinds::any, "Ciphers up to TLS 1.2.").without_effect(),
    kept!("tls-ciphersuites", "", kinds::any, "Ciphers of TLS 1.3.").without_effect(),
    kept!("tls-replication", "no", kinds::yes_no, "TLS to the primary.").without_effect(),
    kept!("tls-cluster", "no", kinds::yes_no, "TLS between nodes.").without_effect(),
];
