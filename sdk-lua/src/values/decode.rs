//! MessagePack to Lua values. Nothing is believed that a payload merely announces.

use mlua::{Lua, MultiValue, Table, Value};
use rmp::Marker;

use super::{MAX_DEPTH, integer};

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
