//! `POST /call/{class}/{method}`: a call that comes as JSON, and its answer or why there is none.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use switchboard_protocol::{Class, Mode, Reason, ServiceId, key};

use super::actions::id_of;
use super::answer::{Answered, json};
use super::problem::Problem;
use super::query::Query;
use super::{Admin, body, classes, payload};
use crate::caller::{Answer, Failure, Target};
use crate::policy::Policies;

/// Calls, and answers with the results.
pub(super) async fn call(
    class: &str,
    method: &str,
    query: &str,
    headers: &HeaderMap,
    body: Incoming,
    admin: &Admin,
) -> Answered {
    let settings = admin.shared.settings.load_full();
    let policies = &settings.policies;
    // What can't be called is not told apart from what is not there.
    let found = classes::find(class, policies).ok().filter(|found| policies.of(*found).http_calls);
    let Some(found) = found else {
        let detail = format!("no class `{class}` takes calls over HTTP");
        return Err(Problem::not_found(detail));
    };
    let query = Query::read(query, &["mode", "key", "id", "timeout"])?;
    let target = target(&query, found, policies)?;
    let patience = patience(&query)?;
    let limit = settings.http_calls.max_body_bytes;
    let arguments: Vec<Value> = body::json(headers, body, limit).await?;
    let request = payload::request(method, arguments).map_err(Problem::bad_request)?;
    match admin.caller.call(target, request, patience).await {
        Ok(answer) => results(&answer, policies),
        Err(failure) => Err(problem(failure)),
    }
}

fn target(query: &Query, class: Class, policies: &Policies) -> Result<Target, Problem> {
    let mode = query.value::<Mode>("mode")?.unwrap_or(Mode::Master);
    let only = |name, given: bool, belongs: bool| match (given, belongs) {
        (false, true) => Err(Problem::bad_request(format!("{name}: mode={mode} needs one"))),
        (true, false) => Err(Problem::bad_request(format!("{name}: mode={mode} takes none"))),
        _ => Ok(()),
    };
    only("key", query.text("key").is_some(), mode == Mode::Hash)?;
    only("id", query.text("id").is_some(), mode == Mode::Direct)?;
    Ok(match mode {
        Mode::Broadcast => {
            let detail = "mode: a broadcast has many answers, and HTTP has one; call the instances by mode=direct";
            return Err(Problem::bad_request(detail));
        }
        Mode::Hash => Target::Hash(class, hash_key(query.text("key").unwrap_or_default())),
        Mode::Direct => {
            let text = query.text("id").unwrap_or_default();
            let id = id_of(text, policies)?;
            if id.class() != class {
                let class = policies.name(class);
                return Err(Problem::bad_request(format!(
                    "id: `{text}` is not of the class {class}"
                )));
            }
            Target::Direct(id)
        }
        mode => Target::Class(class, mode),
    })
}

/// An integer is its own key, anything else is a text; so is an integer in double quotes.
fn hash_key(text: &str) -> u64 {
    let signed = || text.parse().ok().map(key::of_integer);
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    text.parse()
        .ok()
        .or_else(signed)
        .unwrap_or_else(|| key::of_bytes(quoted.unwrap_or(text).as_bytes()))
}

fn patience(query: &Query) -> Result<Duration, Problem> {
    let Some(text) = query.text("timeout") else { return Ok(USUAL_PATIENCE) };
    let wrong = || {
        let rule = "it is 1ms to 60s, such as 500ms or 2s";
        Problem::bad_request(format!("timeout: `{text}`: {rule}"))
    };
    let (number, per_second) = match text.strip_suffix("ms") {
        Some(number) => (number, 1_000.0),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1.0),
    };
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    let seconds = number / per_second;
    if !(SHORTEST_PATIENCE.as_secs_f64()..=LONGEST_PATIENCE.as_secs_f64()).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn results(answer: &Answer, policies: &Policies) -> Answered {
    let values = payload::values(&answer.payload).map_err(|why| {
        let detail = format!("an answer came that can't be told in JSON: {why}");
        Problem::new(StatusCode::BAD_GATEWAY, "decode", detail)
    })?;
    if answer.error {
        return Err(remote(values));
    }
    let mut results = json(&values);
    let from = ServiceId::from_raw(answer.from).ok().map(|id| policies.id_name(id));
    // A name of a class may have letters that a header does not take.
    if let Some(from) = from.and_then(|from| HeaderValue::try_from(from).ok()) {
        results.headers_mut().insert(INSTANCE, from);
    }
    Ok(results)
}

/// The callee's error: its code for programs, its text for people.
fn remote(values: Vec<Value>) -> Problem {
    let mut texts = values.into_iter().map(|value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let code = texts.next().unwrap_or_default();
    let text = texts.next().unwrap_or_default();
    let (status, error) = match code.as_str() {
        "no_method" => (StatusCode::NOT_FOUND, "refused"),
        "bad_args" => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
        "busy" => (StatusCode::SERVICE_UNAVAILABLE, "refused"),
        "outside_window" => (StatusCode::BAD_GATEWAY, "outcome_unknown"),
        _ => (StatusCode::BAD_GATEWAY, "remote"),
    };
    Problem::new(status, error, text).and_code(code)
}

fn problem(failure: Failure) -> Problem {
    let detail = failure.to_string();
    match failure {
        Failure::NotSent(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_sent", detail),
        Failure::TooLarge { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
        }
        Failure::NoRoute(reason) => {
            let status = match reason {
                Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            Problem::new(status, "no_route", detail).and_code(reason.to_string())
        }
        Failure::Timeout(_) => Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail),
        Failure::LinkLost => Problem::new(StatusCode::BAD_GATEWAY, "outcome_unknown", detail),
    }
}

/// Tells who answered.
const INSTANCE: HeaderName = HeaderName::from_static("switchboard-instance");
const USUAL_PATIENCE: Duration = Duration::from_secs(5);
const SHORTEST_PATIENCE: Duration = Duration::from_millis(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_integer_or_a_text() {
        assert_eq!(hash_key("42"), 42);
        assert_eq!(hash_key("18446744073709551615"), u64::MAX);
        assert_eq!(hash_key("-1"), u64::MAX);
        assert_eq!(hash_key("\"42\""), key::of_bytes(b"42"));
        assert_eq!(hash_key("anna"), key::of_bytes(b"anna"));
        assert_eq!(hash_key("18446744073709551616"), key::of_bytes(b"18446744073709551616"));
    }

    #[test]
    fn a_timeout_has_a_unit_and_is_neither_nothing_nor_for_ever() {
        let read =
            |text: &str| patience(&Query::read(&format!("timeout={text}"), &["timeout"]).unwrap());
        assert_eq!(read("2s").unwrap(), Duration::from_secs(2));
        assert_eq!(read("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(read("1.5s").unwrap(), Duration::from_millis(1_500));
        for wrong in ["", "2", "s", "0s", "60.1s", "-1s", "2h", "1e9s", "infs", "NaNs", "0.0001ms"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
