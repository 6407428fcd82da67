//! After SYNC: a snapshot is sent at the client's pace, as a bulk string without its line end.

use super::{Connection, End, WRITE_BYTES};
use crate::keyspace::load::may_wait;
use std::fs::File;
use std::io::Read;

impl Connection {
    pub(super) async fn send_snapshot(&mut self, mut file: File) -> Result<(), End> {
        let len = file.metadata()?.len();
        self.reply.raw(format!("${len}\r\n").as_bytes());
        self.write_reply().await?;
        let mut part = vec![0; WRITE_BYTES];
        loop {
            let read = may_wait(|| file.read(&mut part))?;
            if read == 0 {
                return Ok(());
            }
            self.write(&part[..read]).await?;
        }
    }
}
