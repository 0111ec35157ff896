//! Who may ask: the token, the name by which the server is asked, and that no page of another site asks in
//! the name of whoever looks at it.

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::Admin;
use super::problem::Problem;
use crate::shared::Settings;

/// Whether a request may be answered.
pub(super) fn check(request: &Parts, admin: &Admin) -> Result<(), Problem> {
    check_name(request, admin)?;
    check_token(&request.headers, &admin.shared.settings.load())?;
    if request.method == Method::POST {
        check_site(&request.headers)?;
    }
    Ok(())
}

/// Whether this server is asked by a name of its own.
pub(super) fn check_name(request: &Parts, admin: &Admin) -> Result<(), Problem> {
    match admin.address.ip().is_loopback() {
        true => check_host(request, &admin.shared.settings.load()),
        false => Ok(()),
    }
}

/// A page of another site can have its own name lead to this machine, and would be let in by the browser.
/// Such a request comes under that name.
fn check_host(request: &Parts, settings: &Settings) -> Result<(), Problem> {
    let header = request.headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
    let Some(host) = request.uri.authority().map(|host| host.as_str()).or(header) else {
        // No browser leaves it out.
        return Ok(());
    };
    let name = without_port(host);
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let known = |known: &str| known.eq_ignore_ascii_case(name);
    if is_address || known("localhost") || settings.admin_hosts.iter().any(|host| known(host)) {
        return Ok(());
    }
    let detail = format!(
        "this server is not known as `{name}`: ask for it as localhost or by its address, or add the name to \
         admin_hosts"
    );
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", detail))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn check_token(headers: &HeaderMap, settings: &Settings) -> Result<(), Problem> {
    let Some(token) = &settings.admin_token else { return Ok(()) };
    let Some(shown) = headers.get(AUTHORIZATION) else {
        return Err(Problem::unauthorized("show the token: Authorization: Bearer <token>"));
    };
    let bearer = shown.to_str().ok().and_then(|shown| shown.split_once(' '));
    match bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        Some((_, shown)) if token.is(shown.trim()) => Ok(()),
        _ => Err(Problem::unauthorized("this is not the token")),
    }
}

/// A browser says from which site a request comes; other programs say nothing.
fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let foreign_site = site.is_some_and(|site| site != "same-origin" && site != "none");
    let origin = text(ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, host)| host));
    let foreign_origin = origin.is_some_and(|origin| text(HOST) != Some(origin));
    if foreign_site || foreign_origin {
        let detail = "a page of another site may not ask for this";
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign_site", detail));
    }
    Ok(())
}
