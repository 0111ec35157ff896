//! Handlers by method: how an async function with typed arguments becomes something that takes a
//! payload and answers with one. Running them is [`crate::runner`]'s business.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use ahash::AHashMap;
use bytes::Bytes;
use serde::Serialize;

use crate::args::{self, FromArgs, Request};
use crate::caller::Caller;

/// An error that a handler answers a call with: a code for programs and a text for people.
///
/// Anything that is a [`std::error::Error`] becomes one with the code `error`, so `?` works in
/// handlers. The codes below are those that the SDK itself answers with.
///
/// ```
/// use switchboard::HandlerError;
///
/// let error = HandlerError::new("poor", "the balance is 3");
/// assert_eq!((error.code(), error.text()), ("poor", "the balance is 3"));
///
/// let error: HandlerError = "x".parse::<u32>().unwrap_err().into();
/// assert_eq!(error.code(), HandlerError::ERROR);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HandlerError {
    code: String,
    text: String,
}

/// What a handler answers with: the payload of the reply.
pub(crate) type Answer = Result<Bytes, HandlerError>;

/// A handler under way.
pub(crate) type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Starts on a message; an error if its arguments are not what the handler takes.
pub(crate) type Handler =
    Arc<dyn Fn(Caller, &Bytes, Option<&Request<'_>>) -> Result<Work, HandlerError> + Send + Sync>;

/// The handlers of a node.
#[derive(Default)]
pub(crate) struct Handlers {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    methods: AHashMap<String, Handler>,
    raw: Option<Handler>,
}

impl HandlerError {
    /// The code of errors that have none of their own.
    pub const ERROR: &str = "error";
    /// The code where no handler has the method.
    pub const NO_METHOD: &str = "no_method";
    /// The code where the arguments are not what the handler takes.
    pub const BAD_ARGS: &str = "bad_args";
    /// The code where the handler panicked.
    pub const PANIC: &str = "panic";
    /// The code where too many messages wait for a handler already. The call was not begun.
    pub const BUSY: &str = "busy";
    /// The code where a repeated call may have been run before, and its answer is forgotten.
    pub const OUTSIDE_WINDOW: &str = "outside_window";
    /// The code where the result does not fit a frame.
    pub const TOO_LARGE: &str = "too_large";

    /// An error with a code of its own: any word but `busy`, `no_method`, `bad_args` and
    /// `outside_window`, which say that the handler did not run; they become `error`.
    #[must_use]
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into() }
    }

    /// For programs.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

// Not an `Error` itself: that would stand in the way of `From` for all errors.
impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(Self::ERROR, text)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Handlers {
    /// Adds a handler, in place of the one that the method had.
    pub(crate) fn insert(&self, method: String, handler: Handler) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.methods.insert(method, handler);
    }

    /// Sets the handler of everything that no method's handler takes.
    pub(crate) fn insert_raw(&self, handler: Handler) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).raw = Some(handler);
    }

    /// Whether a method has a handler of its own.
    pub(crate) fn has(&self, method: &str) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.methods.contains_key(method)
    }

    /// Who takes a message.
    pub(crate) fn find(&self, request: Option<&Request<'_>>) -> Result<Handler, HandlerError> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let by_method = request.and_then(|request| table.methods.get(request.method));
        by_method.or(table.raw.as_ref()).cloned().ok_or_else(|| {
            let text = match request {
                Some(request) => format!("no handler for `{}`", request.method),
                None => "the payload is not [method, ...]".to_owned(),
            };
            HandlerError::new(HandlerError::NO_METHOD, text)
        })
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(table.methods.keys()).finish()
    }
}

/// A handler with typed arguments and a typed result.
pub(crate) fn typed<A, F, W, R>(handler: F) -> Handler
where
    A: FromArgs,
    F: Fn(Caller, A) -> W + Send + Sync + 'static,
    W: Future<Output = Result<R, HandlerError>> + Send + 'static,
    R: Serialize + 'static,
{
    Arc::new(move |caller, _, request| {
        let args = match request {
            Some(request) => request.args::<A>().map_err(|why| bad_args(request.method, &why))?,
            None => return Err(bad_args("", "the payload is not [method, ...]")),
        };
        let wants_reply = caller.wants_reply();
        let work = handler(caller, args);
        Ok(Box::pin(async move {
            let result = work.await?;
            match wants_reply {
                true => encode(&result),
                false => Ok(Bytes::new()),
            }
        }))
    })
}

/// A handler that reads and writes payloads itself.
pub(crate) fn raw<F, W>(handler: F) -> Handler
where
    F: Fn(Caller, Bytes) -> W + Send + Sync + 'static,
    W: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |caller, payload, _| Ok(Box::pin(handler(caller, payload.clone()))))
}

fn bad_args(method: &str, why: &str) -> HandlerError {
    HandlerError::new(HandlerError::BAD_ARGS, format!("`{method}`: {why}"))
}

fn encode(result: &impl Serialize) -> Answer {
    args::write_reply(result)
        .map(Bytes::from)
        .map_err(|why| HandlerError::new(HandlerError::ERROR, format!("result: {why}")))
}
