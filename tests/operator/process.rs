//! The process among others: its files, its signals, its log.

use super::memory_server;
use crate::common::Conn;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Waits until a log has a line that ends so.
fn has_line(path: &std::path::Path, end: &str) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        let log = fs::read_to_string(path).unwrap_or_default();
        if log.lines().any(|line| line.ends_with(end)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Has the server write a line into its log, which names the client's address.
fn stir(port: u16) {
    let mut conn = Conn::open(port).expect("connects");
    conn.send_raw(b"POST / HTTP/1.1\r\n").expect("sent");
    conn.read_to_close().expect("closed");
}

#[test]
fn a_log_that_was_rotated_away_is_begun_anew_under_its_name() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (path, old) = (dir.path().join("t.log"), dir.path().join("t.log.1"));
    let server = memory_server(&["--logfile", path.to_str().expect("text")]);
    let line = "possibly an attack by way of a browser";
    stir(server.port());
    assert!(has_line(&path, line));
    fs::rename(&path, &old).expect("moved");
    stir(server.port());
    assert!(has_line(&path, line), "the new file has no line");
    fs::remove_file(&path).expect("removed");
    stir(server.port());
    assert!(
        has_line(&path, line),
        "the file that was removed is not there again"
    );
}

#[test]
fn a_hangup_does_not_end_the_server() {
    let server = memory_server(&[]);
    let mut conn = server.connect();
    let pid = server.pid().to_string();
    let sent = Command::new("kill").args(["-HUP", &pid]).status().expect("kill");
    assert!(sent.success());
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(conn.words("PING"), b"+PONG\r\n");
}

#[test]
fn the_unix_socket_goes_with_the_server_and_a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("t.sock");
    let mut server = memory_server(&["--unixsocket", path.to_str().expect("text")]);
    let is_socket = || fs::metadata(&path).is_ok_and(|found| found.file_type().is_socket());
    assert!(is_socket());
    server.kill();
    assert!(is_socket(), "a kill leaves it");
    server.restart();
    std::os::unix::net::UnixStream::connect(&path).expect("a new one");
    server.terminate();
    assert!(!path.exists());
}
