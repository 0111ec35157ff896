//! What went wrong, as scripts are told: a text for people, a code for programs, and where there is one, a
//! detail. Expected failures are returned as `nil, text, code, detail`, not thrown.

use mlua::{IntoLuaMulti, Lua, MultiValue, Value};
use switchboard::{CallError, ConnectError, ForwardError, RegisterError};

/// An expected failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) code: &'static str,
    /// The handler's own code, the router's reason.
    pub(crate) detail: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { text: text.into(), code, detail: None }
    }

    fn with(code: &'static str, text: String, detail: impl ToString) -> Self {
        Self { text, code, detail: Some(detail.to_string()) }
    }

    /// An argument that can't be meant as it is.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new("usage", text)
    }

    pub(crate) fn closed() -> Self {
        Self::new("closed", "the node is closed")
    }
}

impl IntoLuaMulti for Failure {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        (Value::Nil, self.text, self.code, self.detail).into_lua_multi(lua)
    }
}

/// What a native returns: its value, or the failure.
pub(crate) fn returned(
    lua: &Lua,
    result: Result<impl IntoLuaMulti, Failure>,
) -> mlua::Result<MultiValue> {
    match result {
        Ok(value) => value.into_lua_multi(lua),
        Err(failure) => failure.into_lua_multi(lua),
    }
}

impl From<ForwardError> for Failure {
    fn from(error: ForwardError) -> Self {
        let text = error.to_string();
        let code = match error {
            ForwardError::NotConnected => "not_connected",
            ForwardError::Full { .. } => "full",
            ForwardError::UnknownClass(_) => "unknown_class",
            ForwardError::TooLarge { .. } => "too_large",
            ForwardError::Closed(_) => "closed",
            _ => "usage",
        };
        Self::new(code, text)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::NotSent(error) => error.into(),
            CallError::NoRoute(reason) => Self::with("no_route", text, reason),
            CallError::Refused { code, .. } => Self::with("refused", text, code),
            CallError::Remote { code, text } => Self::with("remote", text, code),
            CallError::Timeout => Self::new("timeout", text),
            CallError::OutcomeUnknown(_) => Self::new("outcome_unknown", text),
            CallError::Decode(_) => Self::new("decode", text),
            _ => Self::new("error", text),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let text = error.to_string();
        match error {
            ConnectError::Option { .. } => Self::usage(text),
            ConnectError::Unreachable { .. } => Self::new("unreachable", text),
            ConnectError::Refused { code, .. } => Self::with("refused", text, code),
            _ => Self::new("error", text),
        }
    }
}

impl From<RegisterError> for Failure {
    fn from(error: RegisterError) -> Self {
        let text = error.to_string();
        match error {
            RegisterError::NotConnected => Self::new("not_connected", text),
            RegisterError::LinkLost => Self::new("outcome_unknown", text),
            RegisterError::Timeout => Self::new("timeout", text),
            RegisterError::Closed(_) => Self::new("closed", text),
            RegisterError::Refused { code, .. } => Self::with("refused", text, code),
            _ => Self::usage(text),
        }
    }
}
