//! Lua's stack, by its own C interface: for what every command of a script passes through, where a handle for each value
//! would cost more than the command.
//!
//! Positions are counted from 1, or from the top with -1. A function that makes something may leave by a jump of Lua's,
//! for want of memory: who calls it has no value with a destructor at that place.

use mlua::ffi::{self, lua_State};
use std::ffi::{CStr, c_int};

/// Room that is asked for at a time: more than what one step puts there.
const ROOM: c_int = 8;
/// Room for a double in `%.17g`.
const NUMBER_LEN: usize = 40;
/// Whole numbers below it have at most 17 digits.
const WHOLE_BELOW: f64 = 1e17;

/// The stack of the function that is running.
pub struct Stack(*mut lua_State);

/// A value on the stack.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Item<'a> {
    Nil,
    Boolean(bool),
    Number(f64),
    Text(&'a [u8]),
    Table,
    Other,
}

impl Stack {
    /// # Safety
    /// The state is alive, and what runs on it is the C function that the caller is.
    pub unsafe fn of(state: *mut lua_State) -> Stack {
        Stack(state)
    }

    pub fn len(&self) -> c_int {
        // SAFETY: the state is alive.
        unsafe { ffi::lua_gettop(self.0) }
    }

    /// Makes room for a few values more; false when there can be none.
    pub fn has_room(&self) -> bool {
        // SAFETY: the state is alive.
        unsafe { ffi::lua_checkstack(self.0, ROOM) != 0 }
    }

    /// The value at a position. A text is there for as long as it stays on the stack.
    pub fn item(&self, at: c_int) -> Item<'_> {
        // SAFETY: any position may be asked for its type; a string's bytes are Lua's, and stay where they are.
        unsafe {
            match ffi::lua_type(self.0, at) {
                ffi::LUA_TNIL | ffi::LUA_TNONE => Item::Nil,
                ffi::LUA_TBOOLEAN => Item::Boolean(ffi::lua_toboolean(self.0, at) != 0),
                ffi::LUA_TNUMBER => Item::Number(ffi::lua_tonumber(self.0, at)),
                ffi::LUA_TSTRING => {
                    let mut len = 0;
                    let text = ffi::lua_tolstring(self.0, at, &mut len);
                    Item::Text(std::slice::from_raw_parts(text.cast(), len))
                }
                ffi::LUA_TTABLE => Item::Table,
                _ => Item::Other,
            }
        }
    }

    pub fn pop(&self, count: c_int) {
        // SAFETY: callers take away what they have put there.
        unsafe { ffi::lua_pop(self.0, count) }
    }

    /// Takes away all that is above a position.
    pub fn back_to(&self, len: c_int) -> &Stack {
        // SAFETY: as above.
        unsafe { ffi::lua_settop(self.0, len) }
        self
    }

    /// Puts a copy of a value on the top.
    pub fn push_copy(&self, at: c_int) {
        // SAFETY: callers know that it is there, and that there is room.
        unsafe { ffi::lua_pushvalue(self.0, at) }
    }

    /// Makes one text of those on the top.
    pub fn join(&self, count: c_int) {
        // SAFETY: they are texts, so no function of a script is called for them.
        unsafe { ffi::lua_concat(self.0, count) }
    }

    pub fn push_nil(&self) {
        // SAFETY: there is room, as for all that follow: Lua grants 20 values, and who nests asks for more.
        unsafe { ffi::lua_pushnil(self.0) }
    }

    pub fn push_boolean(&self, value: bool) {
        // SAFETY: as above.
        unsafe { ffi::lua_pushboolean(self.0, c_int::from(value)) }
    }

    pub fn push_number(&self, value: f64) {
        // SAFETY: as above.
        unsafe { ffi::lua_pushnumber(self.0, value) }
    }

    pub fn push_text(&self, text: &[u8]) {
        // SAFETY: as above; Lua copies the bytes.
        unsafe {
            ffi::lua_pushlstring(self.0, text.as_ptr().cast(), text.len());
        }
    }

    /// A table with room for so many elements.
    pub fn push_table(&self, elements: usize, fields: usize) {
        let room = |count| c_int::try_from(count).unwrap_or(c_int::MAX);
        // SAFETY: as above.
        unsafe { ffi::lua_createtable(self.0, room(elements), room(fields)) }
    }

    /// A table of texts.
    pub fn push_list(&self, texts: &[&[u8]]) {
        self.push_table(texts.len(), 0);
        for (text, index) in texts.iter().zip(1..) {
            self.push_text(text);
            self.set_element(-2, index);
        }
    }

    /// Takes the top value and makes it an element of the table at a position.
    pub fn set_element(&self, table: c_int, index: c_int) {
        // SAFETY: callers know that it is a table.
        unsafe { ffi::lua_rawseti_(self.0, table, index) }
    }

    /// Takes a key and the value above it and puts them into the table at a position.
    pub fn set_pair(&self, table: c_int) {
        // SAFETY: as above; no key is nil or NaN.
        unsafe { ffi::lua_rawset(self.0, table) }
    }

    /// Takes the top value and makes it the field of a new table.
    pub fn wrap(&self, field: &CStr) {
        self.push_table(0, 1);
        // SAFETY: the table goes below its value; it is new, so nothing else runs.
        unsafe {
            ffi::lua_insert(self.0, -2);
            ffi::lua_setfield(self.0, -2, field.as_ptr());
        }
    }

    /// Puts an element of the table at a position on the top.
    pub fn push_element(&self, table: c_int, index: c_int) -> Item<'_> {
        // SAFETY: callers know that it is a table.
        unsafe { ffi::lua_rawgeti_(self.0, table, index) }
        self.item(-1)
    }

    /// Puts a field of the table on the top there as well.
    pub fn push_field(&self, field: &CStr) -> Item<'_> {
        // SAFETY: callers know that it is a table; only the name is between it and the top.
        unsafe {
            ffi::lua_pushstring_(self.0, field.as_ptr());
            ffi::lua_rawget(self.0, -2);
        }
        self.item(-1)
    }

    /// Takes a key of the table below it from the top, and puts the next one there with its value; false at the end.
    pub fn next_pair(&self) -> bool {
        // SAFETY: the key came from here, or is the nil that all begins with, and the table is not changed meanwhile.
        unsafe { ffi::lua_next(self.0, -2) != 0 }
    }

    /// Makes text of the numbers at the positions up to one, as `%.17g` does.
    pub fn write_numbers(&self, most: c_int) {
        for at in 1..=most {
            if let Item::Number(number) = self.item(at) {
                let whole = number as i64;
                if number.abs() < WHOLE_BELOW
                    && whole as f64 == number
                    && (whole != 0 || !number.is_sign_negative())
                {
                    self.push_text(itoa::Buffer::new().format(whole).as_bytes());
                } else {
                    let mut text = [0; NUMBER_LEN];
                    // SAFETY: what `%.17g` writes fits.
                    let len =
                        unsafe { libc::snprintf(text.as_mut_ptr(), NUMBER_LEN, c"%.17g".as_ptr(), number) };
                    // SAFETY: as many bytes were written.
                    self.push_text(unsafe { std::slice::from_raw_parts(text.as_ptr().cast(), len as usize) });
                }
                // SAFETY: the position was found above.
                unsafe { ffi::lua_replace(self.0, at) }
            }
        }
    }

    /// Raises the top value as it is.
    pub fn raise(&self) -> ! {
        // SAFETY: this jumps to who catches it; nothing here has a destructor.
        unsafe { ffi::lua_error(self.0) }
    }

    /// Raises a text behind the place of the call.
    pub fn raise_text(&self, text: &[u8]) -> ! {
        // SAFETY: as above.
        unsafe {
            ffi::luaL_where(self.0, 1);
            self.push_text(text);
            ffi::lua_concat(self.0, 2);
        }
        self.raise()
    }
}
