//! Lua values to MessagePack. A value that cannot travel is named: which argument, and where in it.

use std::ffi::c_void;
use std::fmt;

use mlua::{Lua, LuaString, Table, Value};

use super::{MAX_DEPTH, MAX_VALUES, integer, kind};

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
        if count > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} {what}s: pass a table"));
        }
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
            Value::Integer(integer) if integer::is_integer(*integer) => {
                written(rmp::encode::write_sint(self.to, *integer))
            }
            Value::Integer(whole) => written(rmp::encode::write_f64(self.to, *whole as f64)),
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
        let whole = integer::from_other(self.lua, value).map_err(failed)?;
        match whole.map(|whole| (i64::try_from(whole), u64::try_from(whole))) {
            Some((Ok(signed), _)) => written(rmp::encode::write_sint(self.to, signed)),
            Some((_, Ok(unsigned))) => written(rmp::encode::write_uint(self.to, unsigned)),
            _ => Err(Untravelable::new(format!("a {} cannot travel", kind(value)))),
        }
    }

    fn table(&mut self, table: &Table) -> Result<(), Untravelable> {
        let pointer = table.to_pointer();
        if self.above.contains(&pointer) {
            return Err(Untravelable::new("a table that contains itself cannot travel"));
        }
        if self.above.len() == MAX_DEPTH {
            return Err(Untravelable::new(format!("nested deeper than {MAX_DEPTH} tables")));
        }
        if self.to.len() > MAX_BYTES {
            return Err(Untravelable::new("what is sent together is larger than any message"));
        }
        self.above.push(pointer);
        let encoded = self.content(table);
        self.above.pop();
        encoded
    }

    fn content(&mut self, table: &Table) -> Result<(), Untravelable> {
        let mark = table.metatable();
        if mark.as_ref() == Some(&self.marks.binary) {
            let Value::String(bytes) = table.raw_get::<Value>(1).map_err(failed)? else {
                return Err(Untravelable::new("what is marked as binary is not a string"));
            };
            return written(rmp::encode::write_bin(self.to, &bytes.as_bytes()));
        }
        match self.shape(table, mark.as_ref())? {
            Shape::Array(length) => self.array(table, length),
            Shape::Map(count) => self.map(table, count),
        }
    }

    fn shape(&self, table: &Table, mark: Option<&Table>) -> Result<Shape, Untravelable> {
        let (mut count, mut highest, mut only_indices) = (0_usize, 0, true);
        let walked = table.for_each(|key: Value, _: Value| {
            count += 1;
            match key {
                Value::Integer(index @ 1..) => highest = highest.max(index),
                _ => only_indices = false,
            }
            Ok(())
        });
        walked.map_err(failed)?;
        let length = usize::try_from(highest).unwrap_or(usize::MAX);
        let limit = count.saturating_mul(2);
        match mark {
            Some(mark) if *mark == self.marks.map => Ok(Shape::Map(count)),
            Some(mark) if *mark == self.marks.array => match only_indices {
                true if length <= limit.saturating_add(MAX_HOLES) => Ok(Shape::Array(length)),
                true => Err(Untravelable::new(format!(
                    "an array of {count} elements and the index {length} has too many holes"
                ))),
                false => Err(Untravelable::new(
                    "what is marked as an array has a key that is not one of 1, 2, 3...",
                )),
            },
            _ if only_indices && length <= limit => Ok(Shape::Array(length)),
            _ => Ok(Shape::Map(count)),
        }
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
        other => format!("[{}]", kind(other)),
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

/// The longest frame that a router can be told to take is 1 GiB. Tables that share tables get there quickly.
const MAX_BYTES: usize = 1 << 30;

/// So many may be in what is marked as an array, whatever else is in it.
const MAX_HOLES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Lua with the marks as globals that set them.
    fn lua() -> (Lua, Marks) {
        let lua = Lua::new();
        let mark = |name: &str| {
            let mark = lua.create_table().unwrap();
            let set =
                lua.load("local mark = ... return function(t) return setmetatable(t, mark) end");
            let set: mlua::Function = set.call(&mark).unwrap();
            lua.globals().set(name, set).unwrap();
            mark
        };
        let marks = Marks { array: mark("array"), map: mark("map"), binary: mark("binary") };
        lua.globals().set("null", Value::NULL).unwrap();
        (lua, marks)
    }

    /// What an expression list encodes to.
    fn encoded(expressions: &str) -> Result<Vec<u8>, String> {
        let (lua, marks) = lua();
        let values: mlua::MultiValue = lua.load(format!("return {expressions}")).eval().unwrap();
        let mut bytes = Vec::new();
        let count = encode_all(&lua, &marks, &values, "argument", &mut bytes)?;
        assert_eq!(count, values.len());
        Ok(bytes)
    }

    #[track_caller]
    fn encodes(expressions: &str, bytes: &[u8]) {
        assert_eq!(encoded(expressions).as_deref(), Ok(bytes), "{expressions}");
    }

    #[track_caller]
    fn refuses(expressions: &str, why: &str) {
        assert_eq!(encoded(expressions), Err(why.to_owned()), "{expressions}");
    }

    #[test]
    fn nothing_and_truth_are_one_byte_each() {
        encodes("nil, null, true, false, nil", &[0xc0, 0xc0, 0xc3, 0xc2, 0xc0]);
        encodes("", &[]);
    }

    #[test]
    fn integers_take_the_shortest_form_over_the_whole_range() {
        encodes("0, 127, -1, -32", &[0x00, 0x7f, 0xff, 0xe0]);
        encodes("128, 255, -33, -128", &[0xcc, 0x80, 0xcc, 0xff, 0xd0, 0xdf, 0xd0, 0x80]);
        encodes("256, -129", &[0xcd, 0x01, 0x00, 0xd1, 0xff, 0x7f]);
        encodes("65536, -32769", &[0xce, 0, 1, 0, 0, 0xd2, 0xff, 0xff, 0x7f, 0xff]);
        encodes("4294967296", &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]);
        encodes("math.maxinteger", &[0xcf, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        encodes("math.mininteger", &[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn floats_stay_floats() {
        encodes("1.0", &[0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        encodes("-0.0", &[0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        encodes("math.huge", &[0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0]);
        encodes("-math.huge", &[0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0]);
        let nan = encoded("0/0").unwrap();
        assert_eq!((nan.len(), nan[0], nan[1] & 0x7f, nan[2] & 0xf0), (9, 0xcb, 0x7f, 0xf0));
    }

    #[test]
    fn strings_are_text_where_they_are_utf_8_and_binary_elsewhere() {
        encodes("''", &[0xa0]);
        encodes("'h\u{e9}'", &[0xa3, b'h', 0xc3, 0xa9]);
        encodes("'\\0\\xff'", &[0xc4, 2, 0x00, 0xff]);
        encodes("binary{'text'}", &[0xc4, 4, b't', b'e', b'x', b't']);
        let long = encoded("('x'):rep(300)").unwrap();
        assert_eq!((&long[..3], long.len()), (&[0xda, 0x01, 0x2c][..], 303));
    }

    #[test]
    fn tables_with_the_keys_from_1_are_arrays_also_with_holes() {
        encodes("{}", &[0x90]);
        encodes("{1, 2, 3}", &[0x93, 1, 2, 3]);
        encodes("{1, nil, 3}", &[0x93, 1, 0xc0, 3]);
        encodes("{nil, 2}", &[0x92, 0xc0, 2]);
        // Two holes for one element: by its keys.
        encodes("{[3] = 3}", &[0x81, 3, 3]);
        encodes("{[0] = 1}", &[0x81, 0, 1]);
        encodes("{[-1] = 1}", &[0x81, 0xff, 1]);
        encodes(
            "{[math.maxinteger] = 1}",
            &[0x81, 0xcf, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1],
        );
        encodes("{{}, {{}}}", &[0x92, 0x90, 0x91, 0x90]);
    }

    #[test]
    fn other_tables_are_maps_with_keys_of_any_kind() {
        encodes("{a = 1}", &[0x81, 0xa1, b'a', 1]);
        encodes("{[true] = {x = null}}", &[0x81, 0xc3, 0x81, 0xa1, b'x', 0xc0]);
        encodes("{[1.5] = 1}", &[0x81, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 1]);
        let mixed = encoded("{1, a = 2}").unwrap();
        assert!(
            [[0x82, 1, 1, 0xa1, b'a', 2], [0x82, 0xa1, b'a', 2, 1, 1]]
                .contains(&mixed.clone().try_into().unwrap()),
            "{mixed:?}"
        );
    }

    #[test]
    fn marks_say_what_a_table_is() {
        encodes("map{}", &[0x80]);
        encodes("map{5}", &[0x81, 1, 5]);
        encodes("array{}", &[0x90]);
        encodes("array{[4] = 1}", &[0x94, 0xc0, 0xc0, 0xc0, 1]);
        refuses(
            "array{[10^6 // 1 | 0] = 1}",
            "argument 1: an array of 1 elements and the index 1000000 has too many holes",
        );
        refuses(
            "array{a = 1}",
            "argument 1: what is marked as an array has a key that is not one of 1, 2, 3...",
        );
        refuses("binary{1}", "argument 1: what is marked as binary is not a string");
    }

    #[test]
    fn what_cannot_travel_is_named_with_its_place() {
        refuses("1, {items = {1, 2, print}}", "argument 2.items[3]: a function cannot travel");
        refuses("print", "argument 1: a function cannot travel");
        refuses("coroutine.create(print)", "argument 1: a thread cannot travel");
        refuses("io.stdout", "argument 1: a userdata cannot travel");
        refuses("{[print] = 1}", "argument 1 (a key): a function cannot travel");
        refuses(
            "{a = {[2.5] = {[true] = print}}}",
            "argument 1.a[2.5][true]: a function cannot travel",
        );
        refuses("{[{}] = print}", "argument 1[table]: a function cannot travel");
        refuses("{['\\xff'] = print}", "argument 1.\u{fffd}: a function cannot travel");
    }

    #[test]
    fn a_table_in_itself_is_refused_and_one_that_is_there_twice_is_not() {
        let cycle = "(function() local t = {} t.next = {back = t} return t end)()";
        refuses(cycle, "argument 1.next.back: a table that contains itself cannot travel");
        let twice = "(function() local t = {} return {t, t} end)()";
        encodes(twice, &[0x92, 0x90, 0x90]);
    }

    #[test]
    fn tables_are_nested_up_to_the_limit() {
        let nested = |depth: usize| format!("{}{}", "{".repeat(depth), "}".repeat(depth));
        assert_eq!(encoded(&nested(MAX_DEPTH)).unwrap().len(), MAX_DEPTH);
        let places = "[1]".repeat(MAX_DEPTH);
        refuses(
            &nested(MAX_DEPTH + 1),
            &format!("argument 1{places}: nested deeper than 64 tables"),
        );
    }

    #[test]
    fn metamethods_are_not_asked() {
        encodes("setmetatable({1}, {__index = error, __len = error, __pairs = error})", &[0x91, 1]);
    }

    #[test]
    fn a_light_userdata_that_points_somewhere_is_refused() {
        let (lua, marks) = lua();
        let somewhere =
            Value::LightUserData(mlua::LightUserData(std::ptr::dangling_mut::<u8>().cast()));
        let error = encode_all(&lua, &marks, [&somewhere], "result", &mut Vec::new()).unwrap_err();
        assert_eq!(error, "result 1: a userdata cannot travel");
    }
}
