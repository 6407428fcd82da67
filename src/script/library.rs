//! Libraries of functions: their texts, and what is known of their functions.
//!
//! A library is a text that is run once when it is loaded, and says then which functions there are. Each thread runs it
//! anew for itself (`functions`), so what a library keeps in local variables is each thread's own.

use super::source::words_of;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A function as it was registered.
pub struct FunctionInfo {
    pub name: String,
    pub description: Option<Vec<u8>>,
    /// `source::flag`.
    pub flags: u8,
    /// It has needed the right to reach: it begins with it from now on.
    pub reaches: AtomicBool,
}

/// A library whose text has been read, and not yet run.
pub struct Source {
    pub name: String,
    /// The whole text.
    pub code: Arc<[u8]>,
    /// Where what is run begins: at the end of the first line.
    pub body: usize,
}

/// What a library's first line says is wrong; with its code.
fn refused<T>(why: impl Into<String>) -> Result<T, String> {
    Err(format!("ERR {}", why.into()))
}

impl Source {
    pub fn new(code: &[u8]) -> Result<Source, String> {
        if !code.starts_with(b"#!") {
            return refused("Missing library metadata");
        }
        let Some(body) = memchr::memchr(b'\n', code) else {
            return refused("Invalid library metadata");
        };
        let Some(words) = words_of(&code[..body]) else {
            return refused("Invalid library metadata");
        };
        let engine = words
            .first()
            .and_then(|word| word.strip_prefix("#!"))
            .unwrap_or("");
        let mut name = None;
        for option in words.iter().skip(1) {
            match option.strip_prefix("name=") {
                Some(_) if name.is_some() => {
                    return refused("Invalid metadata value, name argument was given multiple times");
                }
                Some(given) => name = Some(given.to_owned()),
                None => return refused(format!("Invalid metadata value given: {option}")),
            }
        }
        let Some(name) = name else {
            return refused("Library name was not given");
        };
        if !is_name(name.as_bytes()) {
            return refused(BAD_NAME);
        }
        if !engine.eq_ignore_ascii_case("lua") {
            return refused(format!("Engine '{engine}' not found"));
        }
        Ok(Source {
            name,
            code: code.into(),
            body,
        })
    }
}

pub const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// Whether a library or a function can be called so.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

pub struct Library {
    pub source: Source,
    pub functions: Vec<FunctionInfo>,
}

impl Library {
    /// The text that is run.
    pub fn body(&self) -> &[u8] {
        &self.source.code[self.source.body..]
    }
}

/// The libraries at one time. Functions are found by their names in small letters.
#[derive(Clone, Default)]
pub struct Shelf {
    pub libraries: BTreeMap<String, Arc<Library>>,
    functions: HashMap<String, (Arc<Library>, usize)>,
    bytes: usize,
}

impl Shelf {
    /// Adds a library; with `replace` in the place of one of the same name.
    pub fn add(&mut self, library: Library, replace: bool) -> Result<(), String> {
        let name = library.source.name.clone();
        match self.libraries.get(&name) {
            Some(_) if !replace => return refused(format!("Library '{name}' already exists")),
            _ => {}
        }
        let library = Arc::new(library);
        for function in &library.functions {
            let found = self.functions.get(&function.name.to_ascii_lowercase());
            if found.is_some_and(|(other, _)| other.source.name != name) {
                return refused(format!("Function {} already exists", function.name));
            }
        }
        self.remove(&name);
        for (at, function) in library.functions.iter().enumerate() {
            let key = function.name.to_ascii_lowercase();
            self.functions.insert(key, (library.clone(), at));
        }
        self.bytes += library.source.code.len();
        self.libraries.insert(name, library);
        Ok(())
    }

    /// False when there is no such library.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(library) = self.libraries.remove(name) else {
            return false;
        };
        self.bytes -= library.source.code.len();
        self.functions.retain(|_, (of, _)| of.source.name != name);
        true
    }

    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// The libraries' texts.
    pub fn texts(&self) -> Vec<Vec<u8>> {
        let sources = self.libraries.values().map(|library| &library.source);
        sources.map(|source| source.code.to_vec()).collect()
    }

    /// Bytes of the libraries' texts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A function that was found.
pub struct Found {
    pub library: Arc<Library>,
    at: usize,
    /// Of the shelf that it was found on.
    pub generation: u64,
}

impl Found {
    pub fn info(&self) -> &FunctionInfo {
        &self.library.functions[self.at]
    }
}

#[derive(Default)]
pub struct Libraries {
    shelf: RwLock<Arc<Shelf>>,
    /// Moves with every change.
    generation: AtomicU64,
}

impl Libraries {
    pub fn shelf(&self) -> Arc<Shelf> {
        self.shelf.read().clone()
    }

    /// Changes what there is, if `change` finds nothing against it; what it returns is kept by `keep`, and only then in
    /// force.
    pub fn change<E>(
        &self,
        change: impl FnOnce(&mut Shelf) -> Result<(), E>,
        keep: impl FnOnce(&Shelf) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut current = self.shelf.write();
        let mut changed = Shelf::clone(&current);
        change(&mut changed)?;
        keep(&changed)?;
        *current = Arc::new(changed);
        self.generation.fetch_add(1, Relaxed);
        Ok(())
    }

    /// A function by its name in any case.
    pub fn find(&self, name: &[u8]) -> Option<Found> {
        let name = std::str::from_utf8(name).ok()?;
        let current = self.shelf.read();
        let found = match current.functions.get(name) {
            Some(found) => found,
            None => current.functions.get(&name.to_ascii_lowercase())?,
        };
        Some(Found {
            library: found.0.clone(),
            at: found.1,
            generation: self.generation.load(Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_library() {
        let name = |text: &str| Source::new(text.as_bytes()).map(|source| source.name);
        assert_eq!(name("#!lua name=lib_1\nx"), Ok("lib_1".to_owned()));
        assert_eq!(name("#!LUA name=\"a\"\nx"), Ok("a".to_owned()));
        for (text, why) in [
            ("x", "ERR Missing library metadata"),
            ("#!lua name=a", "ERR Invalid library metadata"),
            ("#!lua\nx", "ERR Library name was not given"),
            ("#!js name=a\nx", "ERR Engine 'js' not found"),
            ("#!lua name=a b=c\nx", "ERR Invalid metadata value given: b=c"),
        ] {
            assert_eq!(name(text), Err(why.to_owned()));
        }
    }

    fn library(name: &str, functions: &[&str]) -> Library {
        let code = format!("#!lua name={name}\n");
        let functions = functions.iter().map(|name| FunctionInfo {
            name: (*name).to_owned(),
            description: None,
            flags: 0,
            reaches: AtomicBool::new(false),
        });
        Library {
            source: Source::new(code.as_bytes()).unwrap(),
            functions: functions.collect(),
        }
    }

    #[test]
    fn a_function_has_one_library() {
        let mut shelf = Shelf::default();
        shelf.add(library("a", &["f", "g"]), false).unwrap();
        assert!(shelf.add(library("a", &["h"]), false).is_err());
        assert!(shelf.add(library("b", &["F"]), false).is_err());
        shelf.add(library("a", &["g", "h"]), true).unwrap();
        shelf.add(library("b", &["f"]), false).unwrap();
        assert_eq!((shelf.functions(), shelf.libraries.len()), (3, 2));
        assert!(shelf.remove("a") && !shelf.remove("a"));
        assert_eq!((shelf.functions(), shelf.bytes()), (1, "#!lua name=b\n".len()));
    }
}
