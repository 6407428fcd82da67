//! A user: name, passwords, and what it may do.

use super::patterns::Access;
use super::rules::Rule;
use super::selector::{Defaults, Selector};
use super::{Denied, Request, RuleError, Vocabulary};
use sha2::{Digest, Sha256};

/// A password's SHA-256 in lower-case hexadecimal digits: passwords themselves are not kept.
type Hash = [u8; 64];

#[derive(Clone)]
pub struct User {
    pub name: Box<[u8]>,
    /// Two users of one name, of which one is the other's successor, differ in this.
    pub identity: u64,
    enabled: bool,
    /// Any password is right.
    no_pass: bool,
    /// `sanitize-payload` or `skip-sanitize-payload`, if one of them was said. Payloads are always looked through.
    sanitize: Option<bool>,
    passwords: Vec<Hash>,
    /// The first is the one that rules without parentheses are about.
    selectors: Vec<Selector>,
    /// Nothing is refused: the decision is made.
    unlimited: bool,
}

impl User {
    /// A user that is off and may do nothing.
    pub fn new(name: &[u8], identity: u64, defaults: Defaults) -> User {
        User {
            name: name.into(),
            identity,
            enabled: false,
            no_pass: false,
            sanitize: None,
            passwords: Vec::new(),
            selectors: vec![Selector::new(defaults)],
            unlimited: false,
        }
    }

    /// Applies one rule as `ACL SETUSER` gives it. After an error the user is not to be used.
    pub fn apply(
        &mut self,
        rule: &[u8],
        defaults: Defaults,
        vocabulary: &dyn Vocabulary,
    ) -> Result<(), RuleError> {
        match Rule::parse(rule)? {
            Rule::On => self.enabled = true,
            Rule::Off => self.enabled = false,
            Rule::NoPass => {
                self.no_pass = true;
                self.passwords.clear();
            }
            Rule::ResetPass => {
                self.no_pass = false;
                self.passwords.clear();
            }
            Rule::SanitizePayload(on) => self.sanitize = Some(on),
            Rule::AddPassword(password) => self.add_hash(hash_of(password)),
            Rule::AddHash(hash) => self.add_hash(read_hash(hash)?),
            Rule::RemovePassword(password) => self.remove_hash(&hash_of(password))?,
            Rule::RemoveHash(hash) => self.remove_hash(&read_hash(hash)?)?,
            Rule::Selector(text) => self.selectors.push(Selector::parse(text, defaults, vocabulary)?),
            Rule::ClearSelectors => self.selectors.truncate(1),
            Rule::Reset => {
                *self = User {
                    sanitize: Some(true),
                    ..User::new(&self.name, self.identity, defaults)
                };
            }
            rule => self.selectors[0].apply(rule, vocabulary)?,
        }
        self.unlimited = self.selectors.iter().any(Selector::is_unlimited);
        Ok(())
    }

    fn add_hash(&mut self, hash: Hash) {
        self.no_pass = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_hash(&mut self, hash: &Hash) -> Result<(), RuleError> {
        let known = self.passwords.iter().position(|known| known == hash);
        self.passwords.remove(known.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// True when this password lets the user in.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let given = hash_of(password);
        // All are looked at, whole: the time taken tells nothing of them.
        let known = self.passwords.iter().fold(false, |known, hash| {
            let differing = hash.iter().zip(&given).fold(0, |seen, (a, b)| seen | (a ^ b));
            known | (std::hint::black_box(differing) == 0)
        });
        self.enabled && (self.no_pass || known)
    }

    /// A client need not say who it is to be this user.
    pub fn is_open(&self) -> bool {
        self.enabled && self.no_pass
    }

    pub fn needs_no_password(&self) -> bool {
        self.no_pass
    }

    /// The decision: one selector has to allow all of it. Else the reason of the one that came furthest.
    #[inline]
    pub fn check(&self, request: &impl Request) -> Result<(), Denied> {
        if self.unlimited {
            return Ok(());
        }
        self.check_selectors(request)
    }

    fn check_selectors(&self, request: &impl Request) -> Result<(), Denied> {
        let mut denied = Denied::Command;
        for selector in &self.selectors {
            match selector.check(request) {
                Ok(()) => return Ok(()),
                Err(why) => denied = denied.max(why),
            }
        }
        Err(denied)
    }

    /// True when a selector allows the request and also any other key: `SORT` reads keys that it does not name.
    pub fn reaches_all_keys(&self, request: &impl Request, needed: Access) -> bool {
        let mut selectors = self.selectors.iter();
        self.unlimited
            || selectors.any(|selector| selector.check(request).is_ok() && selector.reaches_all_keys(needed))
    }

    /// True when a subscription to this channel, or pattern, may stay.
    pub fn hears(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors
            .iter()
            .any(|selector| selector.hears(channel, is_pattern))
    }

    /// True when every subscription that `before` allowed is sure to be allowed still.
    pub fn hears_at_least(&self, before: &User) -> bool {
        let channels = |user: &User| -> Vec<Box<[u8]>> {
            let all = user.selectors.iter().flat_map(|selector| selector.channels());
            all.cloned().collect()
        };
        let hears_all = |user: &User| user.selectors.iter().any(Selector::hears_all);
        let own = channels(self);
        hears_all(self) || !hears_all(before) && channels(before).iter().all(|channel| own.contains(channel))
    }

    /// Words of `ACL GETUSER`.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.no_pass {
            flags.push("nopass");
        }
        match self.sanitize {
            Some(true) => flags.push("sanitize-payload"),
            Some(false) => flags.push("skip-sanitize-payload"),
            None => {}
        }
        flags
    }

    pub fn password_hashes(&self) -> impl Iterator<Item = &[u8]> {
        self.passwords.iter().map(|hash| &hash[..])
    }

    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// The rules that make this user of a new one, in one line.
    pub fn describe(&self) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = self.flags().iter().map(|flag| flag.as_bytes().to_vec()).collect();
        parts.extend(self.passwords.iter().map(|hash| [b"#", &hash[..]].concat()));
        for (i, selector) in self.selectors.iter().enumerate() {
            let text = selector.describe();
            parts.push(if i == 0 {
                text
            } else {
                [b"(", &text[..], b")"].concat()
            });
        }
        parts.join(&b' ')
    }

    /// The line of a file: `user`, the name, the rules.
    pub fn line(&self) -> Vec<u8> {
        [b"user ", &self.name[..], b" ", &self.describe()].concat()
    }
}

fn hash_of(password: &[u8]) -> Hash {
    let mut hash = [0; 64];
    for (digits, byte) in hash.chunks_exact_mut(2).zip(Sha256::digest(password)) {
        digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    hash
}

fn digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value)]
}

fn read_hash(text: &[u8]) -> Result<Hash, RuleError> {
    let hash: Hash = text.try_into().map_err(|_| RuleError::BadHash)?;
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match hash.iter().all(is_digit) {
        true => Ok(hash),
        false => Err(RuleError::BadHash),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Few;
    use super::*;
    use crate::acl::Channels;
    use smallvec::{SmallVec, smallvec};

    fn user(rules: &str) -> User {
        let mut user = User::new(b"u", 1, Defaults::default());
        for rule in
            crate::acl::rules::merge_selectors(&rules.split(' ').map(str::as_bytes).collect::<Vec<_>>())
                .unwrap()
        {
            user.apply(&rule, Defaults::default(), &Few)
                .unwrap_or_else(|error| panic!("{}: {error}", rule.escape_ascii()));
        }
        user
    }

    /// A command that reads or writes one key, or names a channel.
    struct Asked(u32, Vec<&'static [u8]>, Access, bool);

    impl Request for Asked {
        fn number(&self) -> u32 {
            self.0
        }
        fn is_free(&self) -> bool {
            false
        }
        fn first_arg(&self) -> Option<&[u8]> {
            self.1.get(1).copied()
        }
        fn arg(&self, at: usize) -> &[u8] {
            self.1[at]
        }
        fn keys(&self) -> SmallVec<[(usize, Access); 4]> {
            match self.2 {
                Access::NONE => SmallVec::new(),
                access => smallvec![(1, access)],
            }
        }
        fn channels(&self) -> Channels {
            match self.2 {
                Access::NONE if self.3 => (1..2, true),
                _ => (0..0, false),
            }
        }
    }

    fn get(key: &'static str) -> Asked {
        Asked(1, vec![b"GET", key.as_bytes()], Access::READ, false)
    }

    #[test]
    fn one_selector_has_to_allow_everything() {
        let user = user("on ~a* +set (~b* +get)");
        assert_eq!(user.check(&get("b1")), Ok(()));
        assert_eq!(user.check(&get("a1")), Err(Denied::Key(1)));
        assert!(!user.reaches_all_keys(&get("b1"), Access::READ));
        let select = |db| Asked(70, vec![b"SELECT", db], Access::NONE, false);
        assert_eq!(user.check(&select(b"0")), Err(Denied::Command));
        assert_eq!(self::user("+select|0").check(&select(b"0")), Ok(()));
    }

    #[test]
    fn passwords_come_and_go() {
        let with = user("on >a >b");
        assert!(with.accepts(b"a") && with.accepts(b"b") && !with.accepts(b"c"));
        assert!(!user("on >a >b <a").accepts(b"a") && user("on nopass").accepts(b"x"));
        assert!(!user(">a").accepts(b"a") && !user("on nopass resetpass").accepts(b""));
        assert!(user("on >a nopass").is_open() && !user("nopass").is_open());
        let sha = "#ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert!(user(&format!("on {sha}")).accepts(b"a"));
    }

    #[test]
    fn a_user_is_described_by_rules_that_make_it() {
        for rules in [
            "off resetchannels -@all",
            "on nopass ~* &* +@all",
            "on nopass sanitize-payload ~a %R~b resetchannels &c -@all +get (~x resetchannels -@all +@read -get)",
            "off skip-sanitize-payload resetchannels +@all -config|get",
        ] {
            let made = user(rules);
            assert_eq!(String::from_utf8(made.describe()).unwrap(), rules);
        }
        assert!(user("+@all ~* &*").unlimited && !user("+@all ~* &* -get").unlimited);
        assert!(user("(+@all ~* &*)").unlimited);
        let reset = user("on nopass +@all (+get) reset");
        assert_eq!(reset.describe(), b"off sanitize-payload resetchannels -@all");
    }

    #[test]
    fn narrower_channels_are_noticed() {
        let (all, some, other) = (user("&*"), user("&a &b*"), user("&a"));
        assert!(all.hears_at_least(&some) && some.hears_at_least(&other));
        assert!(!some.hears_at_least(&all) && !other.hears_at_least(&some));
        assert!(some.hears(b"b1", false) && !some.hears(b"b1", true) && some.hears(b"b*", true));
    }
}
