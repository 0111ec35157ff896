//! Integers where Lua has none: LuaJIT's numbers are floats. One that is whole travels as an integer up to
//! 2^53, up to where each whole number is a float too. An integer beyond that is an `int64_t` of its FFI, and a
//! script may send an `uint64_t` as well.

#[cfg(not(feature = "luajit"))]
pub(crate) use plain::{from_other, is_integer, to_lua};

#[cfg(feature = "luajit")]
pub(crate) use boxed::{from_other, is_integer, to_lua};

#[cfg(not(feature = "luajit"))]
mod plain {
    use mlua::{Lua, Value};

    /// The Lua value of an integer.
    pub(crate) fn to_lua(_: &Lua, integer: i64) -> mlua::Result<Value> {
        Ok(Value::Integer(integer))
    }

    /// Whether a number that is whole is an integer.
    pub(crate) fn is_integer(_: i64) -> bool {
        true
    }

    /// The integer in a value that is none of Lua's own types.
    pub(crate) fn from_other(_: &Lua, _: &Value) -> mlua::Result<Option<i128>> {
        Ok(None)
    }
}

#[cfg(feature = "luajit")]
mod boxed {
    use mlua::{Function, Lua, Value};

    /// The Lua value of an integer.
    pub(crate) fn to_lua(lua: &Lua, integer: i64) -> mlua::Result<Value> {
        if is_integer(integer) {
            return Ok(Value::Integer(integer));
        }
        let (high, low) = ((integer >> 32) as i32, integer as u32);
        converter(lua, TO_LUA)?.call((high, low))
    }

    /// Whether a number that is whole is an integer.
    pub(crate) fn is_integer(number: i64) -> bool {
        number.unsigned_abs() <= EXACT
    }

    /// The integer in a value that is none of Lua's own types.
    pub(crate) fn from_other(lua: &Lua, value: &Value) -> mlua::Result<Option<i128>> {
        if !matches!(value, Value::Other(_)) {
            return Ok(None);
        }
        let parts: (Option<i32>, Option<u32>, bool) = converter(lua, FROM_LUA)?.call(value)?;
        let (Some(high), Some(low), is_signed) = parts else { return Ok(None) };
        let whole = i64::from(high) << 32 | i64::from(low);
        Ok(Some(if is_signed { i128::from(whole) } else { i128::from(whole as u64) }))
    }

    /// A function of Lua's own, kept in the registry under its source.
    fn converter(lua: &Lua, source: &str) -> mlua::Result<Function> {
        if let Some(kept) = lua.named_registry_value::<Option<Function>>(source)? {
            return Ok(kept);
        }
        let made: Function = lua.load(source).set_name("=switchboard").eval()?;
        lua.set_named_registry_value(source, &made)?;
        Ok(made)
    }

    /// Up to here every whole number is a float as well.
    const EXACT: u64 = 1 << 53;

    const TO_LUA: &str = "local ffi = require 'ffi'; local int64 = ffi.typeof 'int64_t'
        return function(high, low) return int64(high) * 4294967296LL + int64(low) end";

    // To the upper half as signed, the lower half, and whether the whole is signed.
    const FROM_LUA: &str = "local ffi, bit = require 'ffi', require 'bit'
        local int64, uint64 = ffi.typeof 'int64_t', ffi.typeof 'uint64_t'
        return function(value)
            local is_signed = ffi.istype(int64, value)
            if not (is_signed or ffi.istype(uint64, value)) then return nil, nil, false end
            local whole = ffi.cast(int64, value)
            return tonumber(bit.arshift(whole, 32)), tonumber(bit.band(whole, 0xffffffffLL)), is_signed
        end";
}
