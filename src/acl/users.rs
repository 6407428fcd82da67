//! All users, and how they change.
//!
//! Changes are made one at a time, on copies: what readers see is one state or the next. Each change makes the version
//! another, which is all that a connection looks at while nothing changes.

use super::selector::Defaults;
use super::user::User;
use super::{RuleError, Vocabulary};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// The user of everybody who does not say who it is. There is always one.
pub const DEFAULT: &[u8] = b"default";

pub type ByName = BTreeMap<Box<[u8]>, Arc<User>>;

pub struct Users {
    by_name: ArcSwap<ByName>,
    version: AtomicU64,
    /// The default user lets everybody in.
    open: AtomicBool,
    /// `acl-pubsub-default allchannels`.
    all_channels: AtomicBool,
    last_identity: AtomicU64,
    change: Mutex<()>,
    vocabulary: &'static dyn Vocabulary,
}

/// A user before and after a change.
pub struct Changed {
    pub before: Option<Arc<User>>,
    pub after: Arc<User>,
}

/// Which rule cannot be applied, and why.
#[derive(Debug)]
pub struct WrongRule {
    pub rule: Vec<u8>,
    pub why: RuleError,
}

impl Users {
    pub fn new(vocabulary: &'static dyn Vocabulary) -> Users {
        let users = Users {
            by_name: ArcSwap::default(),
            version: AtomicU64::new(0),
            open: AtomicBool::new(false),
            all_channels: AtomicBool::new(false),
            last_identity: AtomicU64::new(0),
            change: Mutex::new(()),
            vocabulary,
        };
        let default = Arc::new(users.pristine_default());
        users.publish(BTreeMap::from([(default.name.clone(), default)]));
        users
    }

    /// The default user as it is when nothing was said of it.
    pub fn pristine_default(&self) -> User {
        let mut user = self.make(DEFAULT);
        for rule in [&b"+@all"[..], b"~*", b"&*", b"on", b"nopass"] {
            // These rules name nothing, and always apply.
            let applied = user.apply(rule, self.defaults(), self.vocabulary);
            debug_assert!(applied.is_ok());
        }
        user
    }

    /// A new user that may do nothing.
    pub fn make(&self, name: &[u8]) -> User {
        let identity = self.last_identity.fetch_add(1, Relaxed) + 1;
        User::new(name, identity, self.defaults())
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            all_channels: self.all_channels.load(Relaxed),
        }
    }

    pub fn set_all_channels_by_default(&self, on: bool) {
        self.all_channels.store(on, Relaxed);
    }

    /// Applies rules to a user that nobody sees yet.
    pub fn apply(&self, user: &mut User, rule: &[u8]) -> Result<(), RuleError> {
        user.apply(rule, self.defaults(), self.vocabulary)
    }

    /// Goes up with every change.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    pub fn all(&self) -> Arc<ByName> {
        self.by_name.load_full()
    }

    pub fn get(&self, name: &[u8]) -> Option<Arc<User>> {
        self.by_name.load().get(name).cloned()
    }

    pub fn default_user(&self) -> Arc<User> {
        // proof: no change takes the default user away (`delete`, `replace`).
        self.get(DEFAULT).unwrap()
    }

    /// True while a client need not say who it is.
    #[inline]
    pub fn are_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// The user that a name and a password prove to be, and the version at which that was so.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<(Arc<User>, u64)> {
        let version = self.version();
        let user = self.get(name)?;
        user.accepts(password).then_some((user, version))
    }

    /// Changes a user, or makes it: by all rules or, if one is wrong, not at all.
    pub fn change(&self, name: &[u8], rules: &[Vec<u8>]) -> Result<Changed, WrongRule> {
        let _one = self.change.lock();
        let before = self.get(name);
        let mut after = match &before {
            Some(user) => User::clone(user),
            None => self.make(name),
        };
        for rule in rules {
            self.apply(&mut after, rule).map_err(|why| WrongRule {
                rule: rule.clone(),
                why,
            })?;
        }
        let after = Arc::new(after);
        let mut users = ByName::clone(&self.by_name.load());
        users.insert(name.into(), after.clone());
        self.publish(users);
        Ok(Changed { before, after })
    }

    /// `requirepass`: the default user's only password; empty: none is needed.
    pub fn set_default_password(&self, password: &[u8]) {
        let rule = match password {
            [] => b"nopass".to_vec(),
            password => [b">", password].concat(),
        };
        // These rules name nothing, and always apply.
        let changed = self.change(DEFAULT, &[b"resetpass".to_vec(), rule]);
        debug_assert!(changed.is_ok());
    }

    /// Removes a user; the default one stays.
    pub fn delete(&self, name: &[u8]) -> Option<Arc<User>> {
        let _one = self.change.lock();
        let mut users = ByName::clone(&self.by_name.load());
        let removed = users.remove(name).filter(|_| name != DEFAULT)?;
        self.publish(users);
        Some(removed)
    }

    /// Puts these users in the place of all; without a default one among them it is as at the beginning. A user whose
    /// name there was before is its successor. Returns the users of before.
    pub fn replace(&self, users: Vec<User>) -> Arc<ByName> {
        let _one = self.change.lock();
        let default = std::iter::once(self.pristine_default());
        self.put(ByName::new(), default.chain(users))
    }

    /// Adds users, in the place of those of the same name.
    pub fn add(&self, users: Vec<User>) {
        let _one = self.change.lock();
        self.put(ByName::clone(&self.by_name.load()), users.into_iter());
    }

    fn put(&self, mut after: ByName, users: impl Iterator<Item = User>) -> Arc<ByName> {
        let before = self.all();
        for mut user in users {
            if let Some(before) = before.get(&user.name) {
                user.identity = before.identity;
            }
            after.insert(user.name.clone(), Arc::new(user));
        }
        self.publish(after);
        before
    }

    fn publish(&self, users: ByName) {
        let open = users.get(DEFAULT).is_some_and(|user| user.is_open());
        self.by_name.store(Arc::new(users));
        self.open.store(open, Relaxed);
        self.version.fetch_add(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Few;
    use super::*;

    fn rules(text: &str) -> Vec<Vec<u8>> {
        text.split(' ').map(|rule| rule.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_change_is_whole_or_none() {
        let users = Users::new(&Few);
        let version = users.version();
        let wrong = users.change(b"u", &rules("on nosuch")).err().unwrap();
        assert_eq!(
            (wrong.rule.as_slice(), wrong.why),
            (&b"nosuch"[..], RuleError::Syntax)
        );
        assert!(users.get(b"u").is_none() && users.version() == version);
        let made = users.change(b"u", &rules("on >p +get")).unwrap();
        assert!(made.before.is_none() && users.version() > version);
        let again = users.change(b"u", &rules("off")).unwrap();
        assert_eq!(again.before.unwrap().identity, again.after.identity);
        assert!(users.authenticate(b"u", b"p").is_none());
        users.delete(b"u");
        let other = users.change(b"u", &rules("on")).unwrap();
        assert_ne!(other.after.identity, again.after.identity);
    }

    #[test]
    fn the_default_user_stays() {
        let users = Users::new(&Few);
        assert!(users.are_open() && users.delete(DEFAULT).is_none());
        users.set_default_password(b"p");
        assert!(!users.are_open() && users.authenticate(DEFAULT, b"p").is_some());
        let replaced = users.make(b"u");
        users.replace(vec![replaced]);
        assert!(users.are_open() && users.get(b"u").is_some());
        users.replace(Vec::new());
        assert!(users.get(b"u").is_none());
    }
}
