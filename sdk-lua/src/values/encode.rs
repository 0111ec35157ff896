//! Lua values to MessagePack. A value that cannot travel is named: which argument, and where in it.

use std::ffi::c_void;
use std::fmt;

use mlua::{Lua, LuaString, Table, Value};

use super::{MAX_DEPTH, integer};

/// The metatables by which a script says what an ambiguous table is.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// An array, although it is empty.
    pub(crate) array: Table,
    /// A map, although it is empty or its keys are 1..n.
    pub(crate) map: Table,
    /// A string that travels as binary, although it is UTF-8. Its bytes lie at 1.
    pub(crate) binary: Table,
}

/// Why a value was not encoded.
#[derive(Debug)]
pub(crate) struct Untravelable {
    /// The place in the argument, from the inside out.
    path: Vec<String>,
    why: String,
}

/// Appends values one after the other. `what` names them in errors: "argument" or "result".
pub(crate) fn encode_all<'a>(
    lua: &Lua,
    marks: &Marks,
    values: impl IntoIterator<Item = &'a Value>,
    what: &str,
    to: &mut Vec<u8>,
) -> Result<usize, String> {
    let mut count = 0;
    for value in values {
        count += 1;
        encode(lua, marks, value, to).map_err(|error| format!("{what} {count}{error}"))?;
    }
    Ok(count)
}

/// Appends one value.
pub(crate) fn encode(
    lua: &Lua,
    marks: &Marks,
    value: &Value,
    to: &mut Vec<u8>,
) -> Result<(), Untravelable> {
    Encoder { lua, marks, to, above: Vec::new() }.value(value)
}

struct Encoder<'a> {
    lua: &'a Lua,
    marks: &'a Marks,
    to: &'a mut Vec<u8>,
    /// The tables that this value lies in.
    above: Vec<*const c_void>,
}

/// What a table is on the wire.
enum Shape {
    Array(usize),
    Map(usize),
}

impl Encoder<'_> {
    fn value(&mut self, value: &Value) -> Result<(), Untravelable> {
        match value {
            Value::Nil => written(rmp::encode::write_nil(self.to)),
            Value::LightUserData(pointer) if pointer.0.is_null() => {
                written(rmp::encode::write_nil(self.to))
            }
            Value::Boolean(boolean) => written(rmp::encode::write_bool(self.to, *boolean)),
            Value::Integer(integer) => written(rmp::encode::write_sint(self.to, *integer)),
            Value::Number(number) => written(rmp::encode::write_f64(self.to, *number)),
            Value::String(string) => self.string(string),
            Value::Table(table) => self.table(table),
            other => self.other(other),
        }
    }

    fn string(&mut self, string: &LuaString) -> Result<(), Untravelable> {
        let bytes = string.as_bytes();
        match std::str::from_utf8(&bytes) {
            Ok(text) => written(rmp::encode::write_str(self.to, text)),
            Err(_) => written(rmp::encode::write_bin(self.to, &bytes)),
        }
    }

    fn other(&mut self, value: &Value) -> Result<(), Untravelable> {
        if matches!(value, Value::Other(_))
            && let Some(integer) = integer::from_other(self.lua, value).map_err(failed)?
        {
            return written(rmp::encode::write_sint(self.to, integer));
        }
        Err(Untravelable::new(format!("a {} cannot travel", value.type_name())))
    }

    fn table(&mut self, table: &Table) -> Result<(), Untravelable> {
        let pointer = table.to_pointer();
        if self.above.contains(&pointer) {
            return Err(Untravelable::new("a table that contains itself cannot travel"));
        }
        if self.above.len() == MAX_DEPTH {
            return Err(Untravelable::new(format!("nested deeper than {MAX_DEPTH} tables")));
        }
        self.above.push(pointer);
        let encoded = self.content(table);
        self.above.pop();
        encoded
    }

    fn content(&mut self, table: &Table) -> Result<(), Untravelable> {
        let mark = table.metatable();
        if mark.as_ref() == Some(&self.marks.binary) {
            let bytes: LuaString = table.raw_get(1).map_err(failed)?;
            return written(rmp::encode::write_bin(self.to, &bytes.as_bytes()));
        }
        match self.shape(table, mark.as_ref()).map_err(failed)? {
            Shape::Array(length) => self.array(table, length),
            Shape::Map(count) => self.map(table, count),
        }
    }

    fn shape(&self, table: &Table, mark: Option<&Table>) -> mlua::Result<Shape> {
        let (mut count, mut highest, mut only_indices) = (0_usize, 0, true);
        table.for_each(|key: Value, _: Value| {
            count += 1;
            match key {
                Value::Integer(index @ 1..) => highest = highest.max(index),
                _ => only_indices = false,
            }
            Ok(())
        })?;
        let length = usize::try_from(highest).unwrap_or(usize::MAX);
        let is_dense = only_indices && length <= count.saturating_mul(2);
        let shape = match mark {
            Some(mark) if *mark == self.marks.map => Shape::Map(count),
            Some(mark) if *mark == self.marks.array && only_indices => Shape::Array(length),
            _ if is_dense => Shape::Array(length),
            _ => Shape::Map(count),
        };
        Ok(shape)
    }

    fn array(&mut self, table: &Table, length: usize) -> Result<(), Untravelable> {
        let announced = u32::try_from(length).map_err(|_| too_large())?;
        written(rmp::encode::write_array_len(self.to, announced))?;
        for index in 1..=length {
            let value: Value = table.raw_get(index).map_err(failed)?;
            self.value(&value).map_err(|error| error.within(format!("[{index}]")))?;
        }
        Ok(())
    }

    fn map(&mut self, table: &Table, count: usize) -> Result<(), Untravelable> {
        let announced = u32::try_from(count).map_err(|_| too_large())?;
        written(rmp::encode::write_map_len(self.to, announced))?;
        let mut result = Ok(());
        let walked = table.for_each(|key: Value, value: Value| {
            result = self
                .value(&key)
                .map_err(|error| error.within(" (a key)".to_owned()))
                .and_then(|()| self.value(&value).map_err(|error| error.within(place(&key))));
            match result {
                Ok(()) => Ok(()),
                // Ends the walk; the reason is in `result`.
                Err(_) => Err(mlua::Error::StackError),
            }
        });
        result?;
        walked.map_err(failed)
    }
}

impl Untravelable {
    fn new(why: impl Into<String>) -> Self {
        Self { path: Vec::new(), why: why.into() }
    }

    fn within(mut self, place: String) -> Self {
        self.path.push(place);
        self
    }
}

impl fmt::Display for Untravelable {
    /// Goes behind "argument 2".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.path.iter().rev() {
            f.write_str(place)?;
        }
        write!(f, ": {}", self.why)
    }
}

fn place(key: &Value) -> String {
    match key {
        Value::String(name) => format!(".{}", name.to_string_lossy()),
        Value::Integer(index) => format!("[{index}]"),
        Value::Number(number) => format!("[{number}]"),
        Value::Boolean(boolean) => format!("[{boolean}]"),
        other => format!("[{}]", other.type_name()),
    }
}

/// Memory takes everything.
fn written<T, E: fmt::Display>(result: Result<T, E>) -> Result<(), Untravelable> {
    result.map(|_| ()).map_err(|error| Untravelable::new(error.to_string()))
}

fn failed(error: mlua::Error) -> Untravelable {
    Untravelable::new(error.to_string())
}

fn too_large() -> Untravelable {
    Untravelable::new("too many elements")
}
