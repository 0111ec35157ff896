//! Integers where Lua has none: LuaJIT's numbers are floats, which hold whole numbers up to 2^53. Beyond
//! that an integer is an `int64_t` of its FFI.

use mlua::{Lua, Value};

/// The Lua value of an integer.
#[cfg(not(feature = "luajit"))]
pub(super) fn to_lua(_: &Lua, integer: i64) -> mlua::Result<Value> {
    Ok(Value::Integer(integer))
}

/// The integer in a value that is neither a number nor anything else that Lua knows.
#[cfg(not(feature = "luajit"))]
pub(super) fn from_other(_: &Lua, _: &Value) -> mlua::Result<Option<i64>> {
    Ok(None)
}

#[cfg(feature = "luajit")]
pub(super) use boxed::{from_other, to_lua};

#[cfg(feature = "luajit")]
mod boxed {
    use mlua::{Function, Lua, Value};

    pub(in super::super) fn to_lua(lua: &Lua, integer: i64) -> mlua::Result<Value> {
        if integer.unsigned_abs() <= EXACT {
            return Ok(Value::Integer(integer));
        }
        let (high, low) = ((integer >> 32) as i32, integer as u32);
        converter(lua, TO_LUA)?.call((high, low))
    }

    pub(in super::super) fn from_other(lua: &Lua, value: &Value) -> mlua::Result<Option<i64>> {
        let parts: (Option<i32>, Option<u32>) = converter(lua, FROM_LUA)?.call(value)?;
        let (Some(high), Some(low)) = parts else { return Ok(None) };
        Ok(Some(i64::from(high) << 32 | i64::from(low)))
    }

    /// A function of Lua's own, kept in the registry under its source.
    fn converter(lua: &Lua, source: &str) -> mlua::Result<Function> {
        if let Some(kept) = lua.named_registry_value::<Option<Function>>(source)? {
            return Ok(kept);
        }
        let made: Function = lua.load(source).eval()?;
        lua.set_named_registry_value(source, &made)?;
        Ok(made)
    }

    const EXACT: u64 = 1 << 53;

    const TO_LUA: &str = "local ffi = require 'ffi'; local int64 = ffi.typeof 'int64_t'
        return function(high, low) return int64(high) * 4294967296LL + int64(low) end";

    const FROM_LUA: &str = "local ffi, bit = require 'ffi', require 'bit'
        local int64, uint64 = ffi.typeof 'int64_t', ffi.typeof 'uint64_t'
        return function(value)
            if not (ffi.istype(int64, value) or ffi.istype(uint64, value)) then return nil end
            local low = tonumber(bit.band(value, 0xffffffffLL))
            return tonumber(bit.arshift(ffi.cast(int64, value), 32)), low
        end";
}
