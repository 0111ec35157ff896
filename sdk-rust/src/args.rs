//! What nodes say to each other, in MessagePack: a request is `[method, arg, ...]`, a reply
//! `[result]`, an error `[code, text]`. Structs are written as maps, so that any language can read
//! their fields by name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encoded::Encoded;
use crate::handlers::HandlerError;

/// Arguments of a message: `()` for none, a tuple of up to 12, or a `Vec` or slice of any number.
///
/// Each argument is anything that serde can serialise, `rmpv::Value` for instance.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::Random;
///
/// node.forward(Random, "gamesvr", "nothing", ())?;
/// node.forward(Random, "gamesvr", "one", ("x",))?;
/// node.forward(Random, "gamesvr", "several", (1, "two", [3.0, 4.0], Some(5)))?;
/// node.forward(Random, "gamesvr", "any_number", vec![1, 2, 3])?;
/// node.forward(Random, "gamesvr", "untyped", vec![rmpv::Value::from(1), rmpv::Value::from("two")])?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of arguments",
    note = "arguments are a tuple of things that serde can serialise: `()` for none, `(x,)` for one"
)]
pub trait Args {
    /// Writes them one after the other.
    #[doc(hidden)]
    fn write(&self, to: &mut Writer<'_>) -> Result<(), String>;

    /// How many.
    #[doc(hidden)]
    fn count(&self) -> usize;
}

/// Arguments that a handler takes: `()` for none, a tuple of up to 12, or a `Vec` of any number.
///
/// Missing arguments at the end are read as nil, so they may be an `Option`; one too many is an
/// error, which the caller is told.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Caller, Random};
///
/// node.on("nothing", async |_: Caller, ()| Ok(0));
/// node.on("one", async |_: Caller, (text,): (String,)| Ok(text.len()));
/// node.on("up_to_two", async |_: Caller, (a, b): (u32, Option<u32>)| Ok(a + b.unwrap_or(10)));
/// node.on("any_number", async |_: Caller, all: Vec<u32>| Ok(all.iter().sum::<u32>()));
///
/// assert_eq!(node.call::<u32>(Random, "matchsvr", "up_to_two", (1,)).await?, 11);
/// assert_eq!(node.call::<u32>(Random, "matchsvr", "any_number", (1, 2, 3)).await?, 6);
/// let error = node.call::<u32>(Random, "matchsvr", "one", ()).await.unwrap_err();
/// assert!(error.to_string().contains("bad_args"));
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of arguments",
    note = "a handler takes a tuple of owned things that serde can deserialise: `()` for none, \
            `(x,): (u32,)` for one"
)]
pub trait FromArgs: Sized + 'static {
    /// Reads them.
    #[doc(hidden)]
    fn read(from: Reader<'_>) -> Result<Self, String>;
}

/// Appends values to a payload.
#[derive(Debug)]
pub struct Writer<'a>(&'a mut Vec<u8>);

/// Reads values from a payload.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    left: usize,
}

/// A request, taken apart as far as the method's name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    count: usize,
    args: &'a [u8],
}

impl Writer<'_> {
    /// Appends values that are encoded already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), String> {
        rmp_serde::encode::write_named(self.0, value).map_err(|error| error.to_string())
    }
}

impl Reader<'_> {
    fn value<T: DeserializeOwned>(&mut self) -> Result<T, String> {
        let Some(left) = self.left.checked_sub(1) else {
            return T::deserialize(&mut rmp_serde::Deserializer::new(NIL))
                .map_err(|error| error.to_string());
        };
        self.left = left;
        let mut reader = rmp_serde::Deserializer::new(self.bytes);
        let value = T::deserialize(&mut reader).map_err(|error| error.to_string())?;
        self.bytes = reader.into_inner();
        Ok(value)
    }
}

impl<'a> Request<'a> {
    /// The method of a payload; `None` if it is not `[method, ...]`.
    pub(crate) fn read(mut payload: &'a [u8]) -> Option<Self> {
        let length = rmp::decode::read_array_len(&mut payload).ok()?;
        let (method, args) = rmp::decode::read_str_from_slice(payload).ok()?;
        Some(Self { method, count: (length as usize).checked_sub(1)?, args })
    }

    /// The arguments as they came.
    pub(crate) fn encoded(&self) -> Encoded<&'a [u8]> {
        Encoded { count: self.count, bytes: self.args }
    }

    /// The arguments, as the handler takes them.
    pub(crate) fn args<A: FromArgs>(&self) -> Result<A, String> {
        A::read(Reader { bytes: self.args, left: self.count })
    }
}

/// Appends `[method, args...]`.
pub(crate) fn write_request(
    method: &str,
    args: &impl Args,
    payload: &mut Vec<u8>,
) -> Result<(), String> {
    let length = u32::try_from(args.count() + 1).map_err(|_| "too many arguments".to_owned())?;
    rmp::encode::write_array_len(payload, length).map_err(|error| error.to_string())?;
    rmp::encode::write_str(payload, method).map_err(|error| error.to_string())?;
    args.write(&mut Writer(payload))
}

/// `[result, ...]`, of any number.
pub(crate) fn write_results(results: &impl Args) -> Result<Vec<u8>, String> {
    let length = u32::try_from(results.count()).map_err(|_| "too many results".to_owned())?;
    let mut payload = Vec::new();
    rmp::encode::write_array_len(&mut payload, length).map_err(|error| error.to_string())?;
    results.write(&mut Writer(&mut payload))?;
    Ok(payload)
}

/// `[result]`.
pub(crate) fn write_reply(result: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut payload = vec![ARRAY_OF_ONE];
    Writer(&mut payload).value(result)?;
    Ok(payload)
}

/// The result in `[result]`; several results are a tuple.
pub(crate) fn read_reply<R: DeserializeOwned>(payload: &[u8]) -> Result<R, String> {
    let mut rest = payload;
    let length = rmp::decode::read_array_len(&mut rest)
        .map_err(|_| "a reply is an array of its results".to_owned())?;
    match length {
        0 | 1 => Reader { bytes: rest, left: length as usize }.value(),
        _ => Reader { bytes: payload, left: 1 }.value(),
    }
}

/// `[code, text]`.
pub(crate) fn write_error(error: &HandlerError) -> Vec<u8> {
    let mut payload = vec![ARRAY_OF_TWO];
    let mut writer = Writer(&mut payload);
    // Text can always be written to memory.
    let written = writer.value(error.code()).and_then(|()| writer.value(error.text()));
    debug_assert_eq!(written, Ok(()));
    payload
}

/// Code and text of an error reply. What is not `[code, text]` is shown as far as it can be.
pub(crate) fn read_error(payload: &[u8]) -> (String, String) {
    rmp_serde::from_slice(payload).unwrap_or_else(|_| {
        let text = format!("an error of {} bytes that is not [code, text]", payload.len());
        (HandlerError::ERROR.to_owned(), text)
    })
}

impl Args for () {
    fn write(&self, _: &mut Writer<'_>) -> Result<(), String> {
        Ok(())
    }

    fn count(&self) -> usize {
        0
    }
}

impl FromArgs for () {
    fn read(from: Reader<'_>) -> Result<Self, String> {
        takes(0, &from)
    }
}

impl<T: Serialize> Args for [T] {
    fn write(&self, to: &mut Writer<'_>) -> Result<(), String> {
        self.iter().try_for_each(|arg| to.value(arg))
    }

    fn count(&self) -> usize {
        self.len()
    }
}

impl<T: Serialize> Args for Vec<T> {
    fn write(&self, to: &mut Writer<'_>) -> Result<(), String> {
        self.as_slice().write(to)
    }

    fn count(&self) -> usize {
        self.len()
    }
}

impl<T: DeserializeOwned + 'static> FromArgs for Vec<T> {
    fn read(mut from: Reader<'_>) -> Result<Self, String> {
        // Grows as arguments are found: what the payload announces may be a lie.
        let mut args = Self::new();
        while from.left > 0 {
            args.push(from.value()?);
        }
        Ok(args)
    }
}

impl<A: Args + ?Sized> Args for &A {
    fn write(&self, to: &mut Writer<'_>) -> Result<(), String> {
        (**self).write(to)
    }

    fn count(&self) -> usize {
        (**self).count()
    }
}

macro_rules! tuples {
    ($($count:literal: $($T:ident $index:tt),+;)+) => {$(
        impl<$($T: Serialize),+> Args for ($($T,)+) {
            fn write(&self, to: &mut Writer<'_>) -> Result<(), String> {
                $(to.value(&self.$index)?;)+
                Ok(())
            }

            fn count(&self) -> usize {
                $count
            }
        }

        impl<$($T: DeserializeOwned + 'static),+> FromArgs for ($($T,)+) {
            fn read(mut from: Reader<'_>) -> Result<Self, String> {
                takes($count, &from)?;
                Ok(($(
                    from.value::<$T>().map_err(|why| argument($index, &why))?,
                )+))
            }
        }
    )+};
}

tuples! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
}

fn takes(count: usize, from: &Reader<'_>) -> Result<(), String> {
    match from.left {
        left if left <= count => Ok(()),
        left => Err(format!("takes {count} arguments and got {left}")),
    }
}

fn argument(index: usize, why: &str) -> String {
    format!("argument {}: {why}", index + 1)
}

const NIL: &[u8] = &[0xc0];
const ARRAY_OF_ONE: u8 = 0x91;
const ARRAY_OF_TWO: u8 = 0x92;

#[cfg(test)]
mod tests {
    use super::*;
    use rmpv::Value;
    use serde::Deserialize;

    fn request(args: impl Args) -> Vec<u8> {
        let mut payload = Vec::new();
        write_request("join", &args, &mut payload).unwrap();
        payload
    }

    fn read<A: FromArgs>(args: impl Args) -> Result<A, String> {
        Request::read(&request(args)).unwrap().args()
    }

    #[test]
    fn a_request_is_an_array_of_method_and_arguments() {
        assert_eq!(request(()), b"\x91\xa4join");
        assert_eq!(request((7, "ranked")), b"\x93\xa4join\x07\xa6ranked");
    }

    #[test]
    fn arguments_come_back_as_they_were() {
        assert_eq!(read::<()>(()), Ok(()));
        assert_eq!(read::<(u64, String)>((7, "x")), Ok((7, "x".to_owned())));
        assert_eq!(read::<Vec<u8>>(vec![1, 2]), Ok(vec![1, 2]));
        assert_eq!(read::<(u8, u8)>([1, 2].as_slice()), Ok((1, 2)));
    }

    #[test]
    fn values_without_a_type_go_with_typed_ones() {
        let values = vec![Value::from(7), Value::from("x")];
        assert_eq!(read::<(u64, String)>(values.clone()), Ok((7, "x".to_owned())));
        assert_eq!(read::<Vec<Value>>((7, "x")), Ok(values));
        assert_eq!(read::<(Value,)>((7,)), Ok((Value::from(7),)));
    }

    #[test]
    fn a_struct_is_a_map_by_field_names() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Place {
            x: i32,
        }
        assert_eq!(request((Place { x: -1 },)), b"\x92\xa4join\x81\xa1x\xff");
        assert_eq!(read::<(Place,)>((Place { x: -1 },)), Ok((Place { x: -1 },)));
    }

    #[test]
    fn a_missing_argument_is_nil_and_one_too_many_is_an_error() {
        assert_eq!(read::<(u8, Option<u8>)>((1,)), Ok((1, None)));
        assert!(read::<(u8, u8)>((1,)).unwrap_err().starts_with("argument 2: "));
        assert_eq!(read::<(u8,)>((1, 2)).unwrap_err(), "takes 1 arguments and got 2");
        assert_eq!(read::<()>((1,)).unwrap_err(), "takes 0 arguments and got 1");
    }

    #[test]
    fn what_is_not_a_request_has_no_method() {
        for payload in [&b""[..], b"\x90", b"\x91\x07", b"hello", b"\x92\xa4jo"] {
            assert!(Request::read(payload).is_none(), "{payload:?}");
        }
    }

    #[test]
    fn an_array_that_lies_about_its_length_is_an_error() {
        let request = Request::read(b"\xdd\xff\xff\xff\xff\xa4join\x01").unwrap();
        assert!(request.args::<Vec<u8>>().is_err());
    }

    #[test]
    fn a_reply_is_its_result_and_several_results_are_a_tuple() {
        assert_eq!(write_reply(&7).unwrap(), b"\x91\x07");
        assert_eq!(read_reply::<u8>(b"\x91\x07"), Ok(7));
        assert_eq!(read_reply::<()>(b"\x91\xc0"), Ok(()));
        assert_eq!(read_reply::<()>(b"\x90"), Ok(()));
        assert_eq!(read_reply::<(u8, u8)>(b"\x92\x07\x08"), Ok((7, 8)));
        assert_eq!(read_reply::<(u8, u8)>(&write_reply(&(7, 8)).unwrap()), Ok((7, 8)));
        assert!(read_reply::<u8>(b"\x07").is_err());
    }

    #[test]
    fn an_error_is_code_and_text() {
        let payload = write_error(&HandlerError::new("poor", "no money"));
        assert_eq!(payload, b"\x92\xa4poor\xa8no money");
        assert_eq!(read_error(&payload), ("poor".to_owned(), "no money".to_owned()));
        assert_eq!(read_error(b"\x07").0, "error");
    }
}
