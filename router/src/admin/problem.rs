//! What is told when there is no answer: a problem document of RFC 9457, with a word for programs beside it.

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use serde::Serialize;

use super::answer::{Answer, json_as};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    /// For programs.
    error: &'static str,
    /// For people: what was wrong, and what would be right.
    detail: String,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What somebody else calls it.
    code: Option<String>,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

impl Problem {
    /// A problem of any kind.
    pub(super) fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, error, detail: detail.into(), header: None, code: None }
    }

    /// The request can't be meant as it is.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// As things stand, it can't be done.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// The path is right and the method is not.
    pub(super) fn method(allowed: &'static str) -> Self {
        let detail = format!("only {allowed} is answered here");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// Nobody may come in without the token.
    pub(super) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"switchboard\""))
    }

    /// The same, and the connection ends: what is left of the request is not read.
    pub(super) fn and_close(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// With a word of whoever found it: the callee's, or the reason of a frame that came back.
    pub(super) fn and_code(self, code: String) -> Self {
        Self { code: Some(code), ..self }
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some(Box::new((name, value))), ..self }
    }

    /// As the answer to a request.
    pub(super) fn into_answer(self) -> Answer {
        let Self { status, error, detail, header, code } = self;
        let title = status.canonical_reason().unwrap_or("Error");
        let document = Document {
            r#type: "about:blank",
            title,
            status: status.as_u16(),
            detail: &detail,
            error,
            code: code.as_deref(),
        };
        let mut answer = json_as("application/problem+json", &document);
        *answer.status_mut() = status;
        answer.headers_mut().extend(header.map(|header| *header));
        answer
    }
}
