//! JSON to MessagePack and back: a call's arguments, and its results.
//!
//! Bytes, which JSON does not have, stand there as `{"$base64": "..."}`. What else JSON can't say, such as a
//! text that is not UTF-8, is an error that tells where it stands.

use bytes::Bytes;
use rmpv::Value as Packed;
use serde_json::{Map, Number, Value};

use super::base64;

/// A request's payload: the method, and its arguments.
pub(super) fn request(method: &str, arguments: Vec<Value>) -> Result<Bytes, String> {
    let mut all = vec![Packed::from(method)];
    for (at, argument) in arguments.into_iter().enumerate() {
        all.push(pack(argument).map_err(|why| format!("argument {}: {why}", at + 1))?);
    }
    let mut payload = Vec::new();
    rmpv::encode::write_value(&mut payload, &Packed::Array(all))
        .map_err(|error| error.to_string())?;
    Ok(payload.into())
}

/// The values of an answer: results, or the code and the text of an error.
pub(super) fn values(payload: &[u8]) -> Result<Vec<Value>, String> {
    let mut rest = payload;
    let packed = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH)
        .map_err(|error| format!("it is not MessagePack: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow it", rest.len()));
    }
    let Packed::Array(values) = packed else {
        return Err("it is not an array of results".to_owned());
    };
    let unpacked = values.into_iter().enumerate();
    unpacked
        .map(|(at, value)| unpack(value).map_err(|why| format!("result {}: {why}", at + 1)))
        .collect()
}

fn pack(value: Value) -> Result<Packed, String> {
    Ok(match value {
        Value::Null => Packed::Nil,
        Value::Bool(yes) => yes.into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(n), _, _) => n.into(),
            (_, Some(n), _) => n.into(),
            (_, _, Some(n)) => n.into(),
            _ => return Err(format!("{number} is out of range")),
        },
        Value::String(text) => text.into(),
        Value::Array(values) => {
            Packed::Array(values.into_iter().map(pack).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => match fields.get(BASE64) {
            None => Packed::Map(
                fields
                    .into_iter()
                    .map(|(name, value)| Ok((Packed::from(name), pack(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
            Some(Value::String(text)) if fields.len() == 1 => match base64::decode(text) {
                Some(bytes) => Packed::Binary(bytes),
                None => return Err(format!("`{text}` is not base64")),
            },
            Some(_) => {
                return Err(format!("an object with {BASE64} has a text there, and nothing else"));
            }
        },
    })
}

fn unpack(packed: Packed) -> Result<Value, String> {
    Ok(match packed {
        Packed::Nil => Value::Null,
        Packed::Boolean(yes) => yes.into(),
        Packed::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(n), _) => n.into(),
            (None, n) => n.into(),
        },
        Packed::F32(number) => float(number.into())?,
        Packed::F64(number) => float(number)?,
        Packed::String(text) => match text.into_str() {
            Some(text) => text.into(),
            None => return Err("a text is not UTF-8".to_owned()),
        },
        Packed::Binary(bytes) => {
            let mut fields = Map::new();
            fields.insert(BASE64.to_owned(), base64::encode(&bytes).into());
            fields.into()
        }
        Packed::Array(values) => {
            Value::Array(values.into_iter().map(unpack).collect::<Result<_, _>>()?)
        }
        Packed::Map(pairs) => {
            let mut fields = Map::new();
            for (name, value) in pairs {
                fields.insert(field(name)?, unpack(value)?);
            }
            fields.into()
        }
        Packed::Ext(kind, _) => return Err(format!("JSON has no extension type {kind}")),
    })
}

fn float(number: f64) -> Result<Value, String> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| format!("JSON has no {number}"))
}

/// A name in JSON is a text; numbers are written as one.
fn field(name: Packed) -> Result<String, String> {
    match name {
        Packed::Integer(number) => Ok(number.to_string()),
        Packed::String(text) => text.into_str().ok_or_else(|| "a name is not UTF-8".to_owned()),
        other => Err(format!("JSON has no map with the key {other}")),
    }
}

const BASE64: &str = "$base64";
/// How deep an answer may be nested: as deep as JSON is read.
const MAX_DEPTH: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn answer(packed: &Packed) -> Result<Vec<Value>, String> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, packed).unwrap();
        values(&bytes)
    }

    #[test]
    fn what_json_can_t_say_is_told_with_its_place() {
        assert_eq!(values(b"\x92\x01\xa1\xff").unwrap_err(), "result 2: a text is not UTF-8");
        for (packed, why) in [
            (Packed::Array(vec![f64::NAN.into()]), "result 1: JSON has no NaN"),
            (
                Packed::Array(vec![Packed::Ext(5, vec![1])]),
                "result 1: JSON has no extension type 5",
            ),
            (
                Packed::Array(vec![Packed::Map(vec![(Packed::Nil, 1.into())])]),
                "result 1: JSON has no map with the key nil",
            ),
            (Packed::from("x"), "it is not an array of results"),
        ] {
            assert_eq!(answer(&packed).unwrap_err(), why);
        }
        assert!(values(&[]).unwrap_err().starts_with("it is not MessagePack"));
        assert_eq!(values(&[0x90, 0xc0]).unwrap_err(), "1 bytes follow it");
        let deep = [vec![0x91; 1_000], vec![0xc0]].concat();
        assert!(values(&deep).unwrap_err().starts_with("it is not MessagePack"));
        let wrong = |value: Value| request("m", vec![json!(1), value]).unwrap_err();
        assert_eq!(wrong(json!({"$base64": "?"})), "argument 2: `?` is not base64");
        assert!(wrong(json!({"$base64": "", "more": 1})).contains("and nothing else"));
        assert!(wrong(json!({"$base64": 7})).contains("has a text there"));
    }

    #[test]
    fn maps_with_numbers_for_keys_are_told_with_texts() {
        let map = Packed::Map(vec![(7.into(), 1.into()), ((-1).into(), 2.into())]);
        assert_eq!(answer(&Packed::Array(vec![map])).unwrap(), [json!({"7": 1, "-1": 2})]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300_f64).prop_map(Value::from),
            ".*".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..9)
                .prop_map(|bytes| json!({ "$base64": base64::encode(&bytes) })),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,4}", inner, 0..8)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_goes_out_comes_back(arguments in prop::collection::vec(any_json(), 0..6)) {
            let payload = request("method", arguments.clone()).unwrap();
            let mut back = values(&payload).unwrap();
            prop_assert_eq!(back.remove(0), "method");
            prop_assert_eq!(back, arguments);
        }

        #[test]
        fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = values(&payload);
        }
    }
}
