//! Backups of a server under load, and data folders made of them: what is restored is exactly what was there at the
//! offset or time, damage is found with its place, and a backup that did not end is none.

mod common;

use common::{Conn, Server, Value, show, terrace_binary};
use fastrand::Rng;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Small enough that a test sees many segments and flushes.
const ARGS: &[&str] = &["--journal-segment-size", "64kb", "--journal-flush-size", "256kb"];
/// A flush happens only when it is asked for.
const NO_FLUSH: &[&str] = &["--journal-segment-size", "64kb"];
const PATIENCE: Duration = Duration::from_secs(60);

fn run(args: &[&str]) -> Output {
    Command::new(terrace_binary())
        .args(args)
        .output()
        .expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Runs the binary, which must succeed; what it said.
fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

/// Runs the binary, which must fail; what it said.
fn fail(args: &[&str]) -> String {
    let output = run(args);
    assert!(!output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn status(conn: &mut Conn) -> HashMap<String, String> {
    let Value::List(_, fields) = Value::parse(&conn.words("BACKUP STATUS")) else {
        panic!("BACKUP STATUS answers a map")
    };
    let text = |value: &Value| String::from_utf8_lossy(&value.texts()[0]).into_owned();
    let pairs = fields.chunks(2);
    pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

/// Makes a backup and waits for its end: the status, which must say `done`.
fn backup(conn: &mut Conn, dir: &Path) -> HashMap<String, String> {
    let reply = conn.words(&format!("BACKUP TO {}", dir.display()));
    assert_eq!(show(&reply), "+Background backup started\\r\\n");
    let ended = wait_for_end(conn);
    assert_eq!(ended["state"], "done", "{ended:?}");
    ended
}

fn wait_for_end(conn: &mut Conn) -> HashMap<String, String> {
    let began = Instant::now();
    loop {
        let status = status(conn);
        if status["state"] != "running" {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{status:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The journal offset behind everything that this connection has written.
fn offset(conn: &mut Conn) -> u64 {
    let Value::List(_, fields) = Value::parse(&conn.words("ROLE")) else {
        panic!("ROLE answers a list")
    };
    let digits = fields[1].texts().remove(0);
    String::from_utf8_lossy(&digits).parse().expect("an offset")
}

fn digest(conn: &mut Conn) -> String {
    show(&conn.words("DEBUG DIGEST"))
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_millis() as u64
}

/// A server on a folder that was restored.
fn serve(data: &Path) -> Server {
    Server::terrace(&["--dir", text(data)])
}

fn restore(args: &[&str], backup: &Path, data: &Path) -> String {
    let mut all = vec!["restore"];
    all.extend(args);
    all.extend([text(backup), text(data)]);
    succeed(&all)
}

/// A folder for backups and restored data.
fn place() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let backups = place.path().join("backups");
    (place, backups)
}

/// Random changes of keys of many types in several databases, all of them durable.
struct Changes {
    rng: Rng,
}

impl Changes {
    fn one(&mut self, conn: &mut Conn) {
        let (key, value) = (self.rng.u32(..200), self.rng.u32(..));
        let line = match self.rng.u32(..100) {
            0 => "FLUSHDB".to_string(),
            1 => format!("SWAPDB {} {}", self.rng.u32(..3), self.rng.u32(..3)),
            2..5 => format!("SELECT {}", self.rng.u32(..3)),
            5..15 => format!("DEL s:{key} h:{key} l:{key}"),
            15..25 => format!("RENAME s:{key} s:{}", self.rng.u32(..200)),
            25..40 => format!("HSET h:{key} f{} {value}", self.rng.u32(..9)),
            40..50 => format!("RPUSH l:{key} {value}"),
            50..60 => format!("ZADD z:{key} {value} m{}", self.rng.u32(..9)),
            60..65 => format!("SET s:{key} {value} EX 100000"),
            _ => format!("SET s:{key} {value}{value}{value}"),
        };
        conn.words(&line);
    }
}

/// Writes numbered values from one connection until told to stop; how many were acknowledged.
fn numbered_writes(
    server: &Server,
    stop: &Arc<AtomicBool>,
    count: &Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    let (mut conn, stop, count) = (server.connect(), stop.clone(), count.clone());
    std::thread::spawn(move || {
        for i in 0u64.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let reply = conn.call(&["SET", &format!("n:{}", i % 1000), &format!("{i:0100}")]);
            assert_eq!(reply, b"+OK\r\n");
            count.store(i + 1, Ordering::SeqCst);
        }
    })
}

/// How many of the numbered writes a server holds: it must be all up to one, and none after it.
fn numbered_prefix(conn: &mut Conn) -> u64 {
    let numbers: Vec<Option<u64>> = (0..1000)
        .map(|key| {
            let value = conn.bulk(&format!("GET n:{key}"))?;
            Some(String::from_utf8_lossy(&value).parse().expect("a number"))
        })
        .collect();
    let count = numbers.iter().flatten().max().map_or(0, |newest| newest + 1);
    for (key, found) in (0..1000).zip(numbers) {
        let newest = (0..count).rev().take(1000).find(|i| i % 1000 == key);
        assert_eq!(found, newest, "n:{key} of {count} writes");
    }
    assert_eq!(conn.integer("DBSIZE"), count.min(1000) as i64);
    count
}

#[test]
fn a_backup_under_write_load_holds_exactly_a_prefix_of_the_writes() {
    let server = Server::terrace(ARGS);
    let (place, backups) = place();
    let (stop, count) = (Arc::default(), Arc::<AtomicU64>::default());
    let writer = numbered_writes(&server, &stop, &count);
    let mut conn = server.connect();
    let mut bounds = Vec::new();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(300));
        let before = count.load(Ordering::SeqCst);
        let made = backup(&mut conn, &backups);
        bounds.push((made["path"].clone(), before, count.load(Ordering::SeqCst) + 1));
    }
    stop.store(true, Ordering::SeqCst);
    writer.join().expect("the writer");
    assert!(succeed(&["check", text(&backups)]).contains("sound"));
    for (i, (path, least, most)) in bounds.iter().enumerate() {
        let data = place.path().join(format!("data{i}"));
        restore(&[], Path::new(path), &data);
        succeed(&["check", text(&data)]);
        let mut restored = serve(&data);
        let found = numbered_prefix(&mut restored.connect());
        assert!((least..=most).contains(&&found), "{found} of {least} to {most}");
        // It is a data folder like any other.
        restored.connect().words("SET more 1");
        restored.terminate();
        restored.restart();
        assert_eq!(restored.connect().integer("EXISTS more n:0"), 2);
    }
}

#[test]
fn restore_to_an_offset_gives_the_state_at_that_offset() {
    let server = Server::terrace(&["--journal-segment-size", "64kb", "--journal-flush-size", "64kb"]);
    let (place, backups) = place();
    let mut conn = server.connect();
    let mut changes = Changes {
        rng: Rng::with_seed(fastrand::u64(..)),
    };
    println!("seed {}", changes.rng.get_seed());
    for _ in 0..4000 {
        changes.one(&mut conn);
    }
    backup(&mut conn, &backups);
    // From here on every state can be reached, by the journal of the next backup or of the server itself.
    let mut states = Vec::new();
    for _ in 0..12 {
        let (offset, digest) = (offset(&mut conn), digest(&mut conn));
        // A record has the time at which it is written down, which is a little later.
        std::thread::sleep(Duration::from_millis(60));
        states.push((offset, digest, unix_ms()));
        std::thread::sleep(Duration::from_millis(2));
        for _ in 0..20 {
            changes.one(&mut conn);
        }
    }
    backup(&mut conn, &backups);
    states.push((offset(&mut conn), digest(&mut conn), unix_ms()));
    let live = server.data_dir();
    for (i, (offset, expected, time)) in states.iter().enumerate() {
        let last = i + 1 == states.len();
        let (to_offset, to_time) = (offset.to_string(), time.to_string());
        let by = match i % 3 {
            _ if last => vec![],
            0 => vec!["--to-offset", &to_offset],
            1 => vec!["--to-time", &to_time],
            _ => vec!["--to-offset", &to_offset, "--journal", text(&live)],
        };
        let data = place.path().join(format!("data{i}"));
        let shown = restore(&by, &backups, &data);
        assert!(shown.contains(&format!("offset {offset}")), "{by:?}: {shown}");
        let mut restored = serve(&data);
        assert_eq!(&digest(&mut restored.connect()), expected, "{by:?}: {shown}");
        // From there on, far behind what the server before it has given out.
        assert_eq!(self::offset(&mut restored.connect()), *offset + (1 << 42));
        restored.terminate();
    }
}

#[test]
fn an_offset_within_a_group_gives_the_state_before_it() {
    let server = Server::terrace(NO_FLUSH);
    let (place, backups) = place();
    let mut conn = server.connect();
    conn.words("SET a 1");
    let before = offset(&mut conn);
    conn.words("MSET a 2 b 2");
    let after = offset(&mut conn);
    backup(&mut conn, &backups);
    for (at, expected) in [(before, "1"), (after - 1, "1"), (after, "2"), (0, "")] {
        let data = place.path().join(format!("at{at}"));
        restore(&["--to-offset", &at.to_string()], &backups, &data);
        let restored = serve(&data);
        let found = restored.connect().bulk("GET a").unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&found), expected, "offset {at}");
    }
}

#[test]
fn what_cannot_be_reached_is_said_with_what_can() {
    let server = Server::terrace(NO_FLUSH);
    let (place, backups) = place();
    let mut conn = server.connect();
    let began = unix_ms() - 1000;
    for i in 0..100 {
        conn.words(&format!("SET key:{i} value"));
    }
    let flushed = offset(&mut conn);
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    conn.words("SET last value");
    backup(&mut conn, &backups);
    let end = offset(&mut conn);
    let data = place.path().join("data");
    let restore = |args: &[&str]| {
        let mut all = vec!["restore"];
        all.extend(args);
        all.extend([text(&backups), text(&data)]);
        fail(&all)
    };
    let why = restore(&["--to-offset", "5"]);
    assert!(
        why.contains(&format!(
            "oldest moment that can be restored is offset {flushed}, 20"
        )),
        "{why}"
    );
    let why = restore(&["--to-time", &began.to_string()]);
    assert!(why.contains(&format!("offset {flushed}, 20")), "{why}");
    let why = restore(&["--to-offset", &(end + 1).to_string()]);
    assert!(
        why.contains(&format!("newest moment that can be restored is offset {end}, 20")),
        "{why}"
    );
    let why = restore(&["--to-time", "2999-01-01T00:00:00Z"]);
    assert!(why.contains(&format!("offset {end}, 20")), "{why}");
    assert!(restore(&["--to-time", "yesterday"]).contains("is no time"));
    assert!(!data.join("store").exists());
    conn.words("SET beyond value");
    // Everything that the journal of the server has beyond the backup.
    std::thread::sleep(Duration::from_millis(50));
    let live = server.data_dir();
    self::restore(&["--journal", text(&live)], &backups, &data);
    assert_eq!(serve(&data).connect().integer("EXISTS last beyond key:99"), 3);
    let why = restore(&[]);
    assert!(why.contains("is not empty"), "{why}");
}

#[test]
fn a_journal_of_another_history_is_refused() {
    let mut server = Server::terrace(NO_FLUSH);
    let (place, backups) = place();
    let mut conn = server.connect();
    for i in 0..10 {
        conn.words(&format!("SET key:{i} value"));
    }
    backup(&mut conn, &backups);
    let end = offset(&mut conn);
    server.terminate();
    // The same offsets, other effects.
    let data = place.path().join("data");
    restore(&["--to-offset", &(end / 2).to_string()], &backups, &data);
    let mut restored = serve(&data);
    for i in 0..20 {
        restored.connect().words(&format!("SET key:{i} other"));
    }
    restored.terminate();
    let again = place.path().join("again");
    let (beyond, again) = ((end + 20).to_string(), text(&again).to_string());
    let why = fail(&[
        "restore",
        "--to-offset",
        &beyond,
        "--journal",
        text(&data),
        text(&backups),
        &again,
    ]);
    assert!(why.contains("another history"), "{why}");
}

#[test]
fn a_second_backup_keeps_what_it_has_and_needs_nothing_of_the_first() {
    let server = Server::terrace(NO_FLUSH);
    let (place, backups) = place();
    let mut conn = server.connect();
    let mut rng = Rng::new();
    for i in 0..2000 {
        // Not to be packed.
        let value: String = (0..500).map(|_| rng.alphanumeric()).collect();
        conn.words(&format!("SET key:{i} {value}"));
    }
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    let library = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)";
    conn.call(&["FUNCTION", "LOAD", library]);
    backup(&mut conn, &backups);
    conn.words("SET more value");
    let second = backup(&mut conn, &backups);
    assert_ne!(second["files-kept"], "0", "{second:?}");
    let number = |field: &str| second[field].parse::<u64>().expect("a number");
    assert!(
        number("bytes") > 500_000 && number("bytes-written") < 100_000,
        "{second:?}"
    );
    assert_eq!(second["path"], text(&backups.join("000002")));
    let sorted = |generation: &str| -> Vec<PathBuf> {
        let items = fs::read_dir(backups.join(generation).join("store")).expect("a store");
        let paths = items.map(|item| item.expect("an item").path());
        paths
            .filter(|path| path.extension().is_some_and(|e| e == "sst"))
            .collect()
    };
    use std::os::unix::fs::MetadataExt;
    let inodes = |generation: &str| -> Vec<u64> {
        let files = sorted(generation).into_iter();
        files
            .map(|path| fs::metadata(path).expect("a file").ino())
            .collect()
    };
    assert_eq!(inodes("000001"), inodes("000002"));
    fs::remove_dir_all(backups.join("000001")).expect("removed");
    succeed(&["check", text(&backups)]);
    let data = place.path().join("data");
    restore(&[], &backups, &data);
    let restored = serve(&data);
    assert_eq!(restored.connect().integer("DBSIZE"), 2001);
    assert_eq!(restored.connect().integer("FCALL answer 0"), 42);
}

#[test]
fn a_journal_that_is_kept_reaches_from_one_backup_to_the_next() {
    let server = Server::terrace(&[NO_FLUSH, &["--journal-retention-size", "100mb"]].concat());
    let (place, backups) = place();
    let mut conn = server.connect();
    let value = "v".repeat(500);
    let mut between = 0;
    for i in 0..1000 {
        conn.words(&format!("SET key:{i} {value}"));
        match i {
            300 => drop(backup(&mut conn, &backups)),
            600 => between = offset(&mut conn),
            _ => {}
        }
    }
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    let segments = fs::read_dir(server.data_dir().join("journal"))
        .expect("a journal")
        .count();
    assert!(segments > 2, "{segments} segments are kept");
    conn.words("CONFIG SET journal-retention-size 0");
    backup(&mut conn, &backups);
    let data = place.path().join("data");
    restore(&["--to-offset", &between.to_string()], &backups, &data);
    assert_eq!(serve(&data).connect().integer("DBSIZE"), 601);
    conn.words("SET one more");
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    let segments = fs::read_dir(server.data_dir().join("journal"))
        .expect("a journal")
        .count();
    assert!(segments <= 2, "{segments} segments are left");
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(dir).expect("a folder");
    items
        .map(|item| item.expect("an item").path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

#[test]
fn damage_in_any_file_of_a_backup_is_found_with_its_place() {
    let server = Server::terrace(NO_FLUSH);
    let (place, backups) = place();
    let mut conn = server.connect();
    let value = "v".repeat(1000);
    for i in 0..300 {
        conn.words(&format!("SET key:{i} {value}"));
    }
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    for i in 0..300 {
        conn.words(&format!("SET other:{i} {value}"));
    }
    let made = backup(&mut conn, &backups);
    let generation = PathBuf::from(&made["path"]);
    let all = files(&generation);
    for kind in [".sst", "MANIFEST", "CURRENT", "OPTIONS", ".log", "manifest.json"] {
        assert!(
            all.iter().any(|path| name(path).contains(kind)),
            "{kind} of {all:?}"
        );
    }
    for path in all {
        let sound = fs::read(&path).expect("read");
        if sound.is_empty() {
            continue;
        }
        let checked = |bytes: Option<&[u8]>| {
            // A new file: the old one may be the server's, too.
            fs::remove_file(&path).expect("removed");
            if let Some(bytes) = bytes {
                fs::write(&path, bytes).expect("write");
            }
            let said = fail(&["check", text(&backups)]);
            assert!(said.contains(name(&path)), "{}: {said}", path.display());
            let data = place.path().join("data");
            let refused = fail(&["restore", text(&backups), text(&data)]);
            assert!(refused.contains(name(&path)), "{}: {refused}", path.display());
            assert!(!data.join("store").exists());
            fs::write(&path, &sound).expect("write");
            said
        };
        let mut bytes = sound.clone();
        // Not in a manifest's name of itself, nor behind a segment's last record.
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let said = checked(Some(&bytes));
        if name(&path) != "manifest.json" {
            assert!(said.contains("between bytes 0 and"), "{said}");
        }
        let said = checked(Some(&sound[..sound.len() - 1]));
        assert!(
            said.contains("cut short") || name(&path) == "manifest.json",
            "{said}"
        );
        checked(None);
    }
    succeed(&["check", text(&backups)]);
    assert_eq!(conn.integer("DBSIZE"), 600);
}

#[test]
fn damage_in_a_data_folder_is_found_with_the_files_name() {
    let mut server = Server::terrace(&[NO_FLUSH, &["--journal-retention-size", "100mb"]].concat());
    let mut conn = server.connect();
    let value = "v".repeat(1000);
    for i in 0..300 {
        conn.words(&format!("SET key:{i} {value}"));
    }
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    for i in 0..300 {
        conn.words(&format!("SET other:{i} {value}"));
    }
    std::thread::sleep(Duration::from_millis(50));
    server.kill();
    let dir = server.data_dir();
    assert!(succeed(&["check", text(&dir)]).contains("sound"));
    let all = files(&dir);
    let segments: Vec<&PathBuf> = all
        .iter()
        .filter(|path| name(path).starts_with("journal-"))
        .collect();
    assert!(segments.len() > 2, "{segments:?}");
    let of_kind = |kind: &str| {
        all.iter()
            .filter(|path| name(path).contains(kind))
            .collect::<Vec<_>>()
    };
    let store = [of_kind(".sst"), of_kind("MANIFEST"), of_kind("CURRENT")].concat();
    for path in segments.into_iter().chain(store) {
        let sound = fs::read(path).expect("read");
        if sound.len() <= 32 && name(path).starts_with("journal-") {
            continue;
        }
        let mut bytes = sound.clone();
        let at = bytes.len() / 3;
        bytes[at] ^= 1;
        fs::write(path, &bytes).expect("write");
        let said = fail(&["check", text(&dir)]);
        assert!(said.contains(name(path)), "{}: {said}", path.display());
        if name(path).starts_with("journal-") {
            assert!(said.contains("at byte"), "{said}");
        }
        fs::write(path, &sound).expect("write");
    }
    succeed(&["check", text(&dir)]);
    server.restart();
    assert_eq!(server.connect().integer("DBSIZE"), 600);
}

#[test]
fn a_crash_during_a_backup_leaves_no_backup_and_a_sound_server() {
    for point in [
        "backup-before-checkpoint=return",
        "backup-after-checkpoint=return",
        "backup-before-file=return",
        "backup-before-file=3*off->return",
        "backup-before-manifest=return",
        "backup-after-manifest=return",
        "backup-after-rename=return",
    ] {
        let mut server = Server::terrace(NO_FLUSH);
        let (place, backups) = place();
        let mut conn = server.connect();
        for i in 0..500 {
            conn.words(&format!("SET key:{i} value"));
        }
        assert_eq!(conn.words("SAVE"), b"+OK\r\n");
        conn.words("SET more value");
        server.terminate();
        server.set_env(&[("FAILPOINTS", point)]);
        server.restart();
        server.set_env(&[]);
        let mut conn = server.connect();
        let _ = conn.try_call(&["BACKUP", "TO", text(&backups)]);
        let began = Instant::now();
        while conn.try_call(&["PING"]).is_ok() {
            assert!(began.elapsed() < PATIENCE, "{point}: never reached");
            std::thread::sleep(Duration::from_millis(5));
        }
        server.kill();
        server.restart();
        let mut conn = server.connect();
        assert_eq!(conn.integer("DBSIZE"), 501, "{point}");
        assert!(!server.data_dir().join("store/backup-checkpoint").exists());
        let complete = point.starts_with("backup-after-rename");
        let unfinished = backups.join("000001.unfinished");
        if unfinished.exists() {
            assert!(
                fail(&["check", text(&backups)]).contains("not finished"),
                "{point}"
            );
            let data = place.path().join("none");
            fail(&["restore", text(&backups), text(&data)]);
            assert!(fail(&["restore", text(&unfinished), text(&data)]).contains("not finished"));
        }
        let made = backup(&mut conn, &backups);
        let number = if complete { "000002" } else { "000001" };
        assert!(made["path"].ends_with(number), "{point}: {made:?}");
        assert!(!unfinished.exists());
        succeed(&["check", text(&backups)]);
        let data = place.path().join("data");
        restore(&[], &backups, &data);
        assert_eq!(serve(&data).connect().integer("DBSIZE"), 501, "{point}");
    }
}

/// A small filesystem of its own; none without the right to mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let path = tempfile::tempdir().expect("a temporary folder");
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        let done = mount
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path.path())
            .output();
        done.is_ok_and(|output| output.status.success())
            .then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_ends_a_backup_and_nothing_else() {
    let Some(disk) = SmallDisk::mount(8) else {
        println!("skipped: no right to mount a small filesystem");
        return;
    };
    let server = Server::terrace(NO_FLUSH);
    let mut conn = server.connect();
    let backups = disk.0.path().join("backups");
    conn.words("SET first value");
    // On another filesystem it is copied.
    let first = backup(&mut conn, &backups);
    let mut rng = Rng::new();
    for i in 0..1500 {
        let value: Vec<u8> = (0..10_000).map(|_| rng.u8(..)).collect();
        conn.call(&[b"SET".as_slice(), format!("key:{i}").as_bytes(), &value]);
    }
    assert_eq!(conn.words("SAVE"), b"+OK\r\n");
    conn.words(&format!("BACKUP TO {}", backups.display()));
    let ended = wait_for_end(&mut conn);
    assert_eq!(ended["state"], "failed", "{ended:?}");
    assert!(ended["error"].contains("No space left"), "{ended:?}");
    assert!(!backups.join("000002.unfinished").exists());
    assert!(!server.data_dir().join("store/backup-checkpoint").exists());
    let info = String::from_utf8(conn.bulk("INFO persistence").expect("a text")).expect("text");
    for line in [
        "backup_last_status:err",
        "backups_made:1",
        "backups_failed:1",
        "backup_in_progress:0",
        "aof_last_write_status:ok",
    ] {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert_eq!(conn.words("SET after value"), b"+OK\r\n");
    assert_eq!(conn.integer("DBSIZE"), 1502);
    let data = tempfile::tempdir().expect("a temporary folder");
    restore(&[], Path::new(&first["path"]), data.path());
    assert_eq!(serve(data.path()).connect().integer("DBSIZE"), 1);
}

#[test]
fn the_tool_asks_a_server_or_reads_a_folder() {
    let (place, backups) = place();
    let socket = place.path().join("socket");
    let mut server = Server::terrace(&[
        "--unixsocket",
        text(&socket),
        "--range",
        "cache",
        "cache:",
        "memory",
    ]);
    let mut conn = server.connect();
    conn.words("SET key value");
    conn.words("SET cache:key value");
    let port = server.port().to_string();
    let shown = succeed(&["backup", "--port", &port, text(&backups)]);
    assert!(shown.contains("000001 made"), "{shown}");
    conn.words("CONFIG SET requirepass secret");
    let refused = fail(&["backup", "--unix", text(&socket), text(&backups)]);
    assert!(refused.contains("NOAUTH"), "{refused}");
    let mut with_password = Command::new(terrace_binary());
    let output = with_password
        .env("REDISCLI_AUTH", "secret")
        .args(["backup", "--unix", text(&socket), text(&backups)])
        .output()
        .expect("the binary runs");
    assert!(said(&output).contains("000002 made"), "{}", said(&output));
    let dir = server.data_dir();
    let in_use = fail(&["backup", "--data", text(&dir), text(&backups)]);
    assert!(in_use.contains("in use"), "{in_use}");
    server.kill();
    let shown = succeed(&["backup", "--data", text(&dir), text(&backups)]);
    assert!(shown.contains("000003 made"), "{shown}");
    for generation in ["000001", "000002", "000003"] {
        let data = place.path().join(generation);
        restore(&[], &backups.join(generation), &data);
        let args = ["--dir", text(&data), "--range", "cache", "cache:", "memory"];
        let restored = Server::terrace(&args);
        let mut conn = restored.connect();
        // Memory ranges are not journaled, and in no backup.
        assert_eq!(conn.integer("DBSIZE"), 1);
        assert_eq!(conn.bulk("GET key").as_deref(), Some(&b"value"[..]));
    }
}

#[test]
fn what_makes_no_sense_is_refused_at_once() {
    let server = Server::terrace(NO_FLUSH);
    let (place, backups) = place();
    let mut conn = server.connect();
    let mut refused = |line: &str, why: &str| {
        let reply = show(&conn.words(line));
        assert!(
            reply.starts_with("-ERR ") && reply.contains(why),
            "{line}: {reply}"
        );
    };
    refused("BACKUP TO backups", "from the root on");
    refused("BACKUP CANCEL", "No backup is being made");
    refused("BACKUP TO", "arguments");
    refused("BACKUP NOW", "unknown subcommand");
    fs::write(place.path().join("letter"), "dear").expect("a file");
    refused(
        &format!("BACKUP TO {}", place.path().display()),
        "other things in it",
    );
    assert_eq!(status(&mut conn)["state"], "none");
    backup(&mut conn, &backups);
    assert_eq!(status(&mut conn)["percent"], "100");
}

#[test]
fn a_folder_that_was_not_restored_to_its_end_starts_no_server() {
    let mut server = Server::terrace(NO_FLUSH);
    let (place, backups) = place();
    let mut conn = server.connect();
    conn.words("SET key value");
    backup(&mut conn, &backups);
    server.terminate();
    let data = place.path().join("data");
    restore(&[], &backups, &data);
    fs::create_dir(data.join("restore-unfinished")).expect("a folder");
    let socket = place.path().join("socket");
    let refused = fail(&["--port", "0", "--unixsocket", text(&socket), "--dir", text(&data)]);
    assert!(refused.contains("not restored to its end"), "{refused}");
    assert!(fail(&["check", text(&data)]).contains("not restored to its end"));
    restore(&[], &backups, &data);
    assert_eq!(serve(&data).connect().integer("EXISTS key"), 1);
}

/// Flushes and wipes go on all the time, and backups begin at any moment of them: the earliest state that a backup
/// says it holds is one that it does hold.
#[test]
fn every_state_from_the_oldest_on_is_as_it_was() {
    let server = Server::terrace(NO_FLUSH);
    let (place, backups) = place();
    let stop = Arc::new(AtomicBool::new(false));
    let flushing = std::thread::spawn({
        let (mut conn, stop) = (server.connect(), stop.clone());
        move || {
            while !stop.load(Ordering::SeqCst) {
                conn.words("BGREWRITEAOF");
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    });
    let mut conn = server.connect();
    let mut changes = Changes {
        rng: Rng::with_seed(fastrand::u64(..)),
    };
    println!("seed {}", changes.rng.get_seed());
    let mut states = vec![(0, digest(&mut conn))];
    for i in 0..600 {
        changes.one(&mut conn);
        states.push((offset(&mut conn), digest(&mut conn)));
        if i % 7 == 0 {
            conn.words("FLUSHDB");
        }
        states.push((offset(&mut conn), digest(&mut conn)));
        if i % 50 == 49 {
            wait_for_end(&mut conn);
            conn.words(&format!("BACKUP TO {}", backups.display()));
        }
    }
    stop.store(true, Ordering::SeqCst);
    flushing.join().expect("the flushing thread");
    assert_eq!(wait_for_end(&mut conn)["state"], "done");
    for generation in 1..=12 {
        let path = backups.join(format!("{generation:06}"));
        let manifest = fs::read(path.join("manifest.json")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        let offset = |moment: &str| manifest[moment]["offset"].as_u64().expect("an offset");
        let (oldest, newest) = (offset("oldest"), offset("newest"));
        for at in [oldest, changes.rng.u64(oldest..=newest)] {
            let data = place.path().join(format!("data{generation}-{at}"));
            if data.exists() {
                continue;
            }
            restore(&["--to-offset", &at.to_string()], &path, &data);
            let expected = states
                .iter()
                .rev()
                .find(|(offset, _)| *offset <= at)
                .expect("a state");
            let found = digest(&mut serve(&data).connect());
            assert_eq!(
                found,
                expected.1,
                "{at} of {oldest} to {newest} in {}",
                path.display()
            );
        }
    }
}
