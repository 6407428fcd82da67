//! TLS against whole servers: with redis-cli, which brings OpenSSL, and certificates that the openssl program makes.

mod common;

use common::{Server, Value};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Certificates of an authority, of a server and of a client, and those of another authority.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn make() -> Certificates {
        let made = Certificates {
            folder: tempfile::tempdir().expect("a folder"),
        };
        made.authority("ca");
        made.authority("other");
        made.signed("server", "ca");
        made.signed("client", "ca");
        made.signed("stranger", "other");
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    fn openssl(&self, line: &str) {
        let ran = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(self.folder.path())
            .output()
            .expect("openssl runs");
        assert!(
            ran.status.success(),
            "openssl {line}\n{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }

    fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout {name}.key -out {name}.crt \
             -subj /CN={name} -addext basicConstraints=critical,CA:TRUE"
        ));
    }

    fn signed(&self, name: &str, by: &str) {
        std::fs::write(self.path("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a file");
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {by}.crt -CAkey {by}.key -CAcreateserial -days 2 -out {name}.crt -extfile names"
        ));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

struct Tls {
    server: Server,
    port: u16,
    files: Certificates,
}

impl Tls {
    fn start(options: &[&str]) -> Tls {
        let files = Certificates::make();
        let port = free_port();
        let named = [
            files.text("server.crt"),
            files.text("server.key"),
            files.text("ca.crt"),
        ];
        let port_text = port.to_string();
        let own = [
            "--range",
            "default",
            "*",
            "memory",
            "--tls-port",
            &port_text,
            "--tls-cert-file",
            &named[0],
            "--tls-key-file",
            &named[1],
            "--tls-ca-cert-file",
            &named[2],
        ];
        Tls {
            server: Server::terrace(&[&own, options].concat()),
            port,
            files,
        }
    }

    /// What redis-cli says, with a certificate of this name if one is given.
    fn cli(&self, certificate: Option<&str>, extra: &[&str], words: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args([
            "20",
            "redis-cli",
            "--tls",
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
        ]);
        command.arg("--cacert").arg(self.files.path("ca.crt"));
        if let Some(name) = certificate {
            command.arg("--cert").arg(self.files.path(&format!("{name}.crt")));
            command.arg("--key").arg(self.files.path(&format!("{name}.key")));
        }
        command.args(extra).args(words).output().expect("redis-cli runs")
    }

    fn says(&self, certificate: Option<&str>, words: &[&str]) -> String {
        String::from_utf8_lossy(&self.cli(certificate, &[], words).stdout)
            .trim_end()
            .to_owned()
    }
}

#[test]
fn clients_need_a_certificate_of_the_authority() {
    let tls = Tls::start(&[]);
    assert_eq!(tls.says(Some("client"), &["PING"]), "PONG");
    assert_ne!(tls.says(None, &["PING"]), "PONG");
    assert_ne!(tls.says(Some("stranger"), &["PING"]), "PONG");
    // Without TLS nothing is understood on that port.
    let mut plain = common::Conn::open(tls.port).expect("a connection");
    assert!(plain.try_call(&["PING"]).is_err());
    let mut admin = tls.server.connect();
    for (wanted, none, stranger) in [
        ("optional", true, false),
        ("no", true, true),
        ("yes", false, false),
    ] {
        assert_eq!(
            admin.words(&format!("CONFIG SET tls-auth-clients {wanted}")),
            b"+OK\r\n"
        );
        assert_eq!(tls.says(Some("client"), &["PING"]), "PONG", "{wanted}");
        assert_eq!(tls.says(None, &["PING"]) == "PONG", none, "{wanted}");
        assert_eq!(
            tls.says(Some("stranger"), &["PING"]) == "PONG",
            stranger,
            "{wanted}"
        );
    }
}

#[test]
fn large_values_and_pipelines_pass() {
    let tls = Tls::start(&[]);
    let value = "x".repeat(100_000);
    assert_eq!(tls.says(Some("client"), &["SET", "k", &value]), "OK");
    assert_eq!(tls.says(Some("client"), &["GET", "k"]), value);
    let mut admin = tls.server.connect();
    admin.call(&[&b"SETRANGE"[..], b"big", b"20000000", b"end"]);
    let read = tls.cli(
        Some("client"),
        &["--no-raw"],
        &["GETRANGE", "big", "10000000", "-1"],
    );
    assert!(read.stdout.len() > 10_000_000 && read.stdout.ends_with(b"end\"\n"));
    let ran = Command::new("timeout")
        .args([
            "60",
            "redis-benchmark",
            "--tls",
            "-h",
            "127.0.0.1",
            "-p",
            &tls.port.to_string(),
        ])
        .arg("--cacert")
        .arg(tls.files.path("ca.crt"))
        .arg("--cert")
        .arg(tls.files.path("client.crt"))
        .arg("--key")
        .arg(tls.files.path("client.key"))
        .args([
            "-n", "20000", "-P", "16", "-c", "10", "-d", "300", "-q", "-t", "set,get",
        ])
        .output()
        .expect("redis-benchmark runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(admin.words("GET key:__rand_int__").len(), 308);
}

#[test]
fn messages_reach_subscribers() {
    let tls = Tls::start(&["--tls-auth-clients", "no"]);
    let mut child = Command::new("timeout")
        .args([
            "20",
            "redis-cli",
            "--tls",
            "-h",
            "127.0.0.1",
            "-p",
            &tls.port.to_string(),
            "--cacert",
        ])
        .arg(tls.files.path("ca.crt"))
        .args(["SUBSCRIBE", "news"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("redis-cli runs");
    let mut admin = tls.server.connect();
    let began = Instant::now();
    while admin.integer("PUBLISH news hello") == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody subscribed");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Before it is ended: what it has been sent it may not have written yet.
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let heard = lines.any(|line| line.is_ok_and(|line| line.contains("hello")));
    let _ = child.kill();
    let _ = child.wait();
    assert!(heard, "it was sent a message");
}

fn issuer_seen(tls: &Tls) -> String {
    let said = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "echo | timeout 10 openssl s_client -connect 127.0.0.1:{} 2>/dev/null | openssl x509 -noout -issuer",
            tls.port
        ))
        .output()
        .expect("openssl runs");
    String::from_utf8_lossy(&said.stdout)
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn renewed_certificates_are_taken_in_without_a_restart() {
    let tls = Tls::start(&["--tls-auth-clients", "no"]);
    assert!(issuer_seen(&tls).contains("CN = ca"), "{}", issuer_seen(&tls));
    let mut admin = tls.server.connect();
    // The same names, other files.
    for part in ["crt", "key"] {
        std::fs::copy(
            tls.files.path(&format!("stranger.{part}")),
            tls.files.path(&format!("server.{part}")),
        )
        .expect("a copy");
    }
    let name = tls.files.text("server.crt");
    assert_eq!(
        admin.words(&format!("CONFIG SET tls-cert-file {name}")),
        b"+OK\r\n"
    );
    assert!(issuer_seen(&tls).contains("CN = other"));
    // What does not fit changes nothing.
    let wrong = tls.files.text("client.crt");
    for refused in [
        format!("CONFIG SET tls-cert-file {wrong}"),
        "CONFIG SET tls-key-file /nosuch".into(),
        "CONFIG SET tls-protocols SSLv3".into(),
    ] {
        let said = String::from_utf8(admin.words(&refused)).expect("text");
        assert!(
            said.starts_with("-ERR CONFIG SET failed (possibly related to argument 'tls-"),
            "{refused}: {said}"
        );
    }
    let kept = Value::parse(&admin.words("CONFIG GET tls-cert-file")).texts();
    assert_eq!(kept[1], name.as_bytes());
    assert!(issuer_seen(&tls).contains("CN = other"));
}

#[test]
fn only_the_versions_that_are_named_are_offered() {
    let tls = Tls::start(&["--tls-auth-clients", "no", "--tls-protocols", "TLSv1.3"]);
    let agrees = |version: &str| {
        let said = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "echo | timeout 10 openssl s_client -connect 127.0.0.1:{} {version} 2>/dev/null",
                tls.port
            ))
            .output()
            .expect("openssl runs");
        String::from_utf8_lossy(&said.stdout).contains("BEGIN CERTIFICATE")
    };
    assert!(agrees("-tls1_3") && !agrees("-tls1_2"));
    assert_eq!(
        tls.server.connect().words("CONFIG SET tls-protocols TLSv1.2"),
        b"+OK\r\n"
    );
    assert!(!agrees("-tls1_3") && agrees("-tls1_2"));
}

#[test]
fn a_server_whose_files_do_not_fit_does_not_start() {
    let files = Certificates::make();
    let start = |certificate: &Path| {
        Command::new("timeout")
            .args(["20".as_ref(), common::terrace_binary().as_os_str()])
            .args(["--port", "0", "--tls-port"])
            .arg(free_port().to_string())
            .arg("--dir")
            .arg(files.path("data"))
            .arg("--tls-cert-file")
            .arg(certificate)
            .output()
            .expect("a run")
    };
    for certificate in ["nosuch", "server.csr", "server.crt"] {
        let said = start(&files.path(certificate));
        assert!(!said.status.success() && !said.stderr.is_empty(), "{certificate}");
    }
}

#[test]
fn strangers_have_little_time() {
    let server = Server::terrace(&["--range", "default", "*", "memory", "--auth-timeout", "1"]);
    let mut admin = server.connect();
    admin.words("CONFIG SET requirepass secret");
    let (mut silent, mut chatty, mut known) = (server.connect(), server.connect(), server.connect());
    assert_eq!(known.words("AUTH secret"), b"+OK\r\n");
    let began = Instant::now();
    while chatty.try_call(&["PING"]).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(silent.read_to_close().is_ok());
    assert_eq!(known.words("PING"), b"+PONG\r\n");
    assert_eq!(admin.words("PING"), b"+PONG\r\n");
    // Where nobody has to say who it is, nobody is a stranger.
    admin.words("CONFIG SET requirepass secret");
    let mut late = server.connect();
    admin.words("ACL SETUSER default nopass");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(late.words("PING"), b"+PONG\r\n");
}
