//! MessagePack to Lua values. Nothing is believed that a payload merely announces.

use mlua::{Lua, MultiValue, Table, Value};
use rmp::Marker;

use super::{MAX_DEPTH, MAX_VALUES, integer};

/// Why a payload has no Lua value: for the sender, who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undecodable(pub(crate) String);

/// Reads values one after the other.
pub(crate) struct Decoder<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(lua: &'a Lua, bytes: &'a [u8]) -> Self {
        Self { lua, bytes }
    }

    /// So many values, behind what is in `values` already. `what` names them in errors.
    pub(crate) fn append(
        mut self,
        count: usize,
        what: &str,
        values: &mut MultiValue,
    ) -> Result<(), Undecodable> {
        if count > MAX_VALUES {
            return Err(Undecodable(format!(
                "{count} {what}s, and {MAX_VALUES} may be: pass a table"
            )));
        }
        for place in 1..=count {
            let value = self.value(0);
            values.push_back(
                value.map_err(|error| Undecodable(format!("{what} {place}: {}", error.0)))?,
            );
        }
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(Undecodable(format!("{left} bytes behind the last {what}"))),
        }
    }

    /// The values of an array, such as the payload of a reply.
    pub(crate) fn append_array(
        mut self,
        what: &str,
        values: &mut MultiValue,
    ) -> Result<(), Undecodable> {
        let count = rmp::decode::read_array_len(&mut self.bytes)
            .map_err(|_| Undecodable(format!("the payload is not an array of {what}s")))?;
        self.append(count as usize, what, values)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Undecodable> {
        let marker = Marker::from_u8(self.take(1)?[0]);
        match marker {
            Marker::Null => Ok(Value::Nil),
            Marker::True => Ok(Value::Boolean(true)),
            Marker::False => Ok(Value::Boolean(false)),
            Marker::FixPos(number) => Ok(Value::Integer(number.into())),
            Marker::FixNeg(number) => Ok(Value::Integer(number.into())),
            Marker::U8 => Ok(Value::Integer(self.number(u8::from_be_bytes)?.into())),
            Marker::U16 => Ok(Value::Integer(self.number(u16::from_be_bytes)?.into())),
            Marker::U32 => Ok(Value::Integer(self.number(u32::from_be_bytes)?.into())),
            Marker::I8 => Ok(Value::Integer(self.number(i8::from_be_bytes)?.into())),
            Marker::I16 => Ok(Value::Integer(self.number(i16::from_be_bytes)?.into())),
            Marker::I32 => Ok(Value::Integer(self.number(i32::from_be_bytes)?.into())),
            Marker::I64 => {
                let number = self.number(i64::from_be_bytes)?;
                integer::to_lua(self.lua, number).map_err(failed)
            }
            Marker::U64 => {
                let number = self.number(u64::from_be_bytes)?;
                match i64::try_from(number) {
                    Ok(number) => integer::to_lua(self.lua, number).map_err(failed),
                    Err(_) => Err(Undecodable(format!(
                        "{number} is over the largest integer of Lua, {}",
                        i64::MAX
                    ))),
                }
            }
            Marker::F32 => Ok(Value::Number(self.number(f32::from_be_bytes)?.into())),
            Marker::F64 => Ok(Value::Number(self.number(f64::from_be_bytes)?)),
            Marker::FixStr(length) => self.string(length.into()),
            Marker::Str8 | Marker::Bin8 => {
                let length = self.number(u8::from_be_bytes)?;
                self.string(length.into())
            }
            Marker::Str16 | Marker::Bin16 => {
                let length = self.number(u16::from_be_bytes)?;
                self.string(length.into())
            }
            Marker::Str32 | Marker::Bin32 => {
                let length = self.number(u32::from_be_bytes)?;
                self.string(length as usize)
            }
            Marker::FixArray(length) => self.array(length.into(), depth),
            Marker::Array16 => {
                let length = self.number(u16::from_be_bytes)?;
                self.array(length.into(), depth)
            }
            Marker::Array32 => {
                let length = self.number(u32::from_be_bytes)?;
                self.array(length as usize, depth)
            }
            Marker::FixMap(length) => self.map(length.into(), depth),
            Marker::Map16 => {
                let length = self.number(u16::from_be_bytes)?;
                self.map(length.into(), depth)
            }
            Marker::Map32 => {
                let length = self.number(u32::from_be_bytes)?;
                self.map(length as usize, depth)
            }
            Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32 => Err(Undecodable("Lua has no value for an extension".to_owned())),
            Marker::Reserved => Err(Undecodable("0xc1 is not MessagePack".to_owned())),
        }
    }

    fn string(&mut self, length: usize) -> Result<Value, Undecodable> {
        let bytes = self.take(length)?;
        self.lua.create_string(bytes).map(Value::String).map_err(failed)
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<Value, Undecodable> {
        let table = self.table(length, 0, depth)?;
        for index in 1..=length {
            let value = self.value(depth + 1)?;
            if !value.is_nil() {
                table.raw_set(index, value).map_err(failed)?;
            }
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<Value, Undecodable> {
        let table = self.table(0, length, depth)?;
        for _ in 0..length {
            let key = self.value(depth + 1)?;
            let value = self.value(depth + 1)?;
            match key {
                Value::Nil => return Err(Undecodable("nil is not a key".to_owned())),
                Value::Number(number) if number.is_nan() => {
                    return Err(Undecodable("not-a-number is not a key".to_owned()));
                }
                key => table.raw_set(key, value).map_err(failed)?,
            }
        }
        Ok(Value::Table(table))
    }

    /// A table with room for what may be there, within bounds.
    fn table(&self, array: usize, map: usize, depth: usize) -> Result<Table, Undecodable> {
        if depth == MAX_DEPTH {
            return Err(Undecodable(format!("nested deeper than {MAX_DEPTH} tables")));
        }
        let bound = MAX_ROOM.min(self.bytes.len());
        self.lua.create_table_with_capacity(array.min(bound), map.min(bound)).map_err(failed)
    }

    fn number<const N: usize, T>(&mut self, read: fn([u8; N]) -> T) -> Result<T, Undecodable> {
        let bytes = self.take(N)?;
        let mut number = [0; N];
        number.copy_from_slice(bytes);
        Ok(read(number))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Undecodable> {
        let (taken, left) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| Undecodable("the payload ends in the middle of a value".to_owned()))?;
        self.bytes = left;
        Ok(taken)
    }
}

fn failed(error: mlua::Error) -> Undecodable {
    Undecodable(error.to_string())
}

/// For how many elements a table has room before they are read.
const MAX_ROOM: usize = 256;

#[cfg(test)]
mod tests {
    use mlua::Function;
    use proptest::prelude::*;

    use super::*;

    fn decoded(lua: &Lua, bytes: &[u8]) -> Result<MultiValue, Undecodable> {
        let mut values = MultiValue::new();
        Decoder::new(lua, bytes).append_array("argument", &mut values).map(|()| values)
    }

    /// What Lua says of the values of a payload.
    #[track_caller]
    fn holds(bytes: &[u8], condition: &str) {
        let lua = Lua::new();
        let values =
            decoded(&lua, bytes).unwrap_or_else(|error| panic!("{condition}: {}", error.0));
        let check: Function =
            lua.load(format!("local a, b, c, d = ... return {condition}")).into_function().unwrap();
        assert!(check.call::<bool>(values).unwrap(), "{condition}");
    }

    #[track_caller]
    fn refuses(bytes: &[u8], why: &str) {
        let error = decoded(&Lua::new(), bytes).unwrap_err();
        assert_eq!(error.0, why);
    }

    #[test]
    fn every_form_of_an_integer_is_read() {
        holds(&[0x92, 0x7f, 0xe0], "math.type(a) == 'integer' and a == 127 and b == -32");
        holds(&[0x92, 0xcc, 0xff, 0xd0, 0x80], "a == 255 and b == -128");
        holds(&[0x92, 0xcd, 0xff, 0xff, 0xd1, 0x80, 0x00], "a == 65535 and b == -32768");
        holds(
            &[0x92, 0xce, 255, 255, 255, 255, 0xd2, 0x80, 0, 0, 0],
            "a == 4294967295 and b == -2147483648",
        );
        let mut edges = vec![0x92, 0xcf, 0x7f, 255, 255, 255, 255, 255, 255, 255];
        edges.extend([0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        holds(&edges, "a == math.maxinteger and b == math.mininteger");
    }

    #[test]
    fn floats_stay_floats() {
        holds(&[0x91, 0xca, 0x3f, 0xc0, 0, 0], "math.type(a) == 'float' and a == 1.5");
        holds(&[0x91, 0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0], "math.type(a) == 'float' and a == 1");
        holds(&[0x91, 0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0], "1 / a == -math.huge");
        holds(&[0x91, 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 1], "a ~= a");
        holds(&[0x91, 0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0], "a == -math.huge");
    }

    #[test]
    fn nil_keeps_its_place_among_arguments_and_in_arrays() {
        holds(&[0x93, 0xc0, 1, 0xc0], "select('#', ...) == 3 and a == nil and b == 1 and c == nil");
        holds(&[0x91, 0x93, 1, 0xc0, 3], "a[1] == 1 and a[2] == nil and a[3] == 3");
        holds(&[0x91, 0x81, 0xa1, b'x', 0xc0], "next(a) == nil");
        holds(&[0x90], "select('#', ...) == 0");
    }

    #[test]
    fn text_and_binary_are_strings() {
        holds(&[0x92, 0xa1, b'x', 0xc4, 2, 0, 0xff], "a == 'x' and b == '\\0\\xff'");
        holds(&[0x92, 0xd9, 1, b'x', 0xda, 0, 1, b'y'], "a == 'x' and b == 'y'");
        holds(&[0x92, 0xc5, 0, 1, 7, 0xc6, 0, 0, 0, 1, 8], "a == '\\7' and b == '\\8'");
        holds(&[0x91, 0xa1, 0xff], "a == '\\xff'");
    }

    #[test]
    fn maps_have_keys_of_any_kind_and_the_last_of_equal_ones_counts() {
        holds(
            &[0x91, 0x83, 1, 2, 0xa1, b'k', 0x91, 3, 0xc3, 0x80],
            "a[1] == 2 and a.k[1] == 3 and next(a[true]) == nil",
        );
        holds(&[0x91, 0xde, 0, 2, 1, 2, 0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 9], "a[1] == 9");
        holds(&[0x91, 0xdf, 0, 0, 0, 1, 5, 6], "a[5] == 6");
    }

    #[test]
    fn what_has_no_lua_value_is_named_with_its_place() {
        let mut over = vec![0x92, 1, 0xcf, 0x80];
        over.extend([0; 7]);
        refuses(
            &over,
            "argument 2: 9223372036854775808 is over the largest integer of Lua, 9223372036854775807",
        );
        refuses(&[0x91, 0xd4, 1, 0], "argument 1: Lua has no value for an extension");
        refuses(&[0x91, 0xc7, 0, 1], "argument 1: Lua has no value for an extension");
        refuses(&[0x91, 0xc1], "argument 1: 0xc1 is not MessagePack");
        refuses(&[0x91, 0x81, 0xc0, 1], "argument 1: nil is not a key");
        refuses(
            &[0x91, 0x81, 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0, 1],
            "argument 1: not-a-number is not a key",
        );
        refuses(&[0x91, 1, 2, 3], "2 bytes behind the last argument");
        refuses(&[0x05], "the payload is not an array of arguments");
        refuses(&[], "the payload is not an array of arguments");
    }

    #[test]
    fn tables_are_nested_up_to_the_limit() {
        let nested = |depth: usize| {
            let mut bytes = vec![0x91; depth];
            bytes.push(0x90);
            bytes
        };
        // The outermost is the payload itself.
        assert!(decoded(&Lua::new(), &nested(MAX_DEPTH)).is_ok());
        refuses(&nested(MAX_DEPTH + 1), "argument 1: nested deeper than 64 tables");
        refuses(&nested(1 << 20), "argument 1: nested deeper than 64 tables");
    }

    #[test]
    fn nothing_is_allocated_for_what_is_merely_announced() {
        let lua = Lua::new();
        let nest = |head: &[u8]| {
            let mut bytes = vec![0x91];
            bytes.extend(head.repeat(MAX_DEPTH));
            bytes
        };
        lua.gc_collect().unwrap();
        lua.gc_stop();
        let before = lua.used_memory();
        for head in [
            &[0xdd, 255, 255, 255, 255][..],
            &[0xdf, 255, 255, 255, 255],
            &[0xc6, 255, 255, 255, 255],
            &[0xdb, 255, 255, 255, 255],
        ] {
            let why = decoded(&lua, &nest(head)).unwrap_err().0;
            assert_eq!(why, "argument 1: the payload ends in the middle of a value");
        }
        let why = decoded(&lua, &[0xdd, 255, 255, 255, 255, 1]).unwrap_err().0;
        assert_eq!(why, "4294967295 arguments, and 5000 may be: pass a table");
        let why = decoded(&lua, &[0xdc, 0x13, 0x88, 1]).unwrap_err().0;
        assert_eq!(why, "argument 2: the payload ends in the middle of a value");
        let used = lua.used_memory() - before;
        assert!(used < 4 << 20, "{used} bytes");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let lua = Lua::new();
            for head in [&[][..], &[0xdc, 0, 9], &[0xdd, 0, 0, 255, 255]] {
                let _ = decoded(&lua, &[head, &bytes].concat());
            }
        }

        #[test]
        fn a_payload_that_is_cut_short_is_refused(
            parts in prop::collection::vec(part(), 1..20), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = vec![0xdc, 0, parts.len() as u8];
            bytes.extend(parts.concat());
            let lua = Lua::new();
            prop_assert_eq!(decoded(&lua, &bytes).map(|values| values.len()), Ok(parts.len()));
            let short = &bytes[..cut.index(bytes.len())];
            prop_assert!(decoded(&lua, short).is_err());
        }
    }

    /// The bytes of one value.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(vec![0xc0]),
            Just(vec![0x05]),
            any::<i64>().prop_map(|n| [&[0xd3][..], &n.to_be_bytes()].concat()),
            any::<f64>().prop_map(|n| [&[0xcb][..], &n.to_be_bytes()].concat()),
            "[a-z]{0,20}".prop_map(|text| [&[0xd9, text.len() as u8], text.as_bytes()].concat()),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| [
                &[0xc5, 0, bytes.len() as u8],
                &*bytes
            ]
            .concat()),
            Just(vec![0x92, 0x81, 0xa1, b'k', 0x90, 0xdd, 0, 0, 0, 1, 0xc3]),
        ]
    }
}
