//! Values on their way between Lua and the wire, which is MessagePack. `encode` writes what scripts pass,
//! `decode` makes Lua values of what arrives; neither knows of nodes.
//!
//! | Lua | MessagePack |
//! |---|---|
//! | nil, `null` | nil |
//! | boolean | bool |
//! | integer (LuaJIT: a whole number up to 2^53, or an `int64_t`) | int |
//! | other number | float 64 |
//! | string that is UTF-8, other string | str, bin |
//! | table with the keys 1..n, with holes for up to half of them | array |
//! | other table | map |

use mlua::Value;

mod decode;
mod encode;
mod integer;

pub(crate) use decode::Decoder;
pub(crate) use encode::{Marks, encode_all};
pub(crate) use integer::{from_other as integer, to_lua as from_integer};

/// How many values may travel side by side: arguments, or results. Lua's stack holds more, LuaJIT's not
/// many more.
pub(crate) const MAX_VALUES: usize = 5000;

/// How deep values may be nested, each way.
pub(crate) const MAX_DEPTH: usize = 64;

/// What scripts call the type of a value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        value if value.is_null() => "nil",
        Value::Integer(_) => "number",
        Value::LightUserData(_) | Value::Error(_) => "userdata",
        Value::Other(_) => "cdata",
        other => other.type_name(),
    }
}
