//! The script that this thread is running: how its functions reach what lies above them.

use crate::resp::{Protocol, Reply};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// What a script runs in. It is lent to the thread while the script runs.
pub trait Host: Any {
    /// Runs a command and appends its reply; an error is a reply too.
    fn call(&mut self, words: &[&[u8]], reply: &mut Reply);

    /// Whether the caller may run a command; none when there is no such command.
    fn may_call(&self, words: &[&[u8]]) -> Option<bool>;

    /// Asked now and then. False ends the script.
    fn goes_on(&mut self) -> bool;

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

thread_local! {
    static HOST: RefCell<Option<Box<dyn Host>>> = const { RefCell::new(None) };
    static PROTOCOL: Cell<Protocol> = const { Cell::new(Protocol::Resp2) };
    /// The script is to end, whatever it does with errors.
    static ENDED: Cell<bool> = const { Cell::new(false) };
    /// The error that the script returned was counted already.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
    /// When what runs without a host has to be over.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs something with a host for its commands, and gives the host back.
pub fn with_host<R>(host: Box<dyn Host>, run: impl FnOnce() -> R) -> (Option<Box<dyn Host>>, R) {
    struct Lent;
    impl Drop for Lent {
        fn drop(&mut self) {
            HOST.take();
        }
    }
    HOST.set(Some(host));
    PROTOCOL.set(Protocol::Resp2);
    ENDED.set(false);
    let _lent = Lent;
    let result = run();
    (HOST.take(), result)
}

/// What runs next has no host, and may take until then.
pub fn begin_without_host(deadline: Instant) {
    ENDED.set(false);
    DEADLINE.set(Some(deadline));
}

/// Uses the host; none outside of a script.
pub fn host<R>(with: impl FnOnce(&mut dyn Host) -> R) -> Option<R> {
    HOST.with_borrow_mut(|host| host.as_deref_mut().map(with))
}

/// The protocol in which the script wants replies.
pub fn protocol() -> Protocol {
    PROTOCOL.get()
}

pub fn set_protocol(protocol: Protocol) {
    PROTOCOL.set(protocol);
}

/// Ends the script as soon as it is back from the function that it has called.
pub fn end() {
    ENDED.set(true);
}

pub fn is_ended() -> bool {
    ENDED.get()
}

pub fn note_counted(counted: bool) {
    COUNTED.set(counted);
}

/// Whether an error that a script has returned is one of a command, and was counted when that was run.
pub fn is_counted() -> bool {
    COUNTED.get()
}

/// Called every so many instructions; false ends the script. Does not unwind.
pub fn tick() -> bool {
    if ENDED.get() {
        return false;
    }
    let goes_on = || {
        HOST.with(|host| match host.try_borrow_mut() {
            Ok(mut host) => match host.as_deref_mut() {
                Some(host) => host.goes_on(),
                None => DEADLINE.get().is_none_or(|deadline| Instant::now() < deadline),
            },
            Err(_) => true,
        })
    };
    let goes_on = catch_unwind(AssertUnwindSafe(goes_on)).unwrap_or(false);
    if !goes_on {
        ENDED.set(true);
    }
    goes_on
}
