//! From a path and a method to the one function that answers.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::answer::{Answer, Answered, text, whole};
use super::problem::Problem;
use super::query::unescape;
use super::{Admin, access, actions, call, classes, history, page, sessions, status, stream};
use crate::metrics;

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Page,
    Healthz,
    Readyz,
    Metrics,
    Classes,
    Class(String),
    Sessions,
    Session(String),
    Routers,
    Config,
    Events,
    Stream,
    Description,
    Drain,
    Reload,
    Disconnect(String),
    Master(String),
    Call { class: String, method: String },
}

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>, admin: &Arc<Admin>) -> Answer {
    respond(request, admin).await.unwrap_or_else(Problem::into_answer)
}

async fn respond(request: Request<Incoming>, admin: &Arc<Admin>) -> Answered {
    let (parts, body) = request.into_parts();
    let route = Route::find(parts.uri.path());
    match route {
        // Whoever wants to know whether the router lives may always ask.
        Ok(Route::Healthz | Route::Readyz) => {}
        // It asks for the token, and is the same for everybody.
        Ok(Route::Page) => access::check_name(&parts, admin)?,
        _ => access::check(&parts, admin)?,
    }
    let route = route?;
    let allowed = route.allowed();
    if !allowed.split(", ").any(|method| method == parts.method.as_str()) {
        return Err(Problem::method(allowed));
    }
    let query = parts.uri.query().unwrap_or_default();
    match route {
        Route::Page => page::show(query, &parts.headers),
        Route::Healthz => Ok(text(StatusCode::OK, "alive\n")),
        Route::Readyz if admin.shared.is_draining() => {
            Ok(text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"))
        }
        Route::Readyz => Ok(text(StatusCode::OK, "ready\n")),
        Route::Metrics => metrics_page(admin),
        Route::Description => status::description(query),
        Route::Classes => classes::list(query, admin),
        Route::Class(name) => classes::one(&name, query, admin),
        Route::Sessions => sessions::list(query, admin).await,
        Route::Session(number) => sessions::one(&number, query, admin),
        Route::Routers => status::routers(query, admin),
        Route::Config => status::config(query, admin),
        Route::Events => history::list(query, admin),
        Route::Stream => stream::listen(query, admin),
        Route::Drain => actions::drain(query, &body, admin),
        Route::Reload => actions::reload(query, body, admin).await,
        Route::Disconnect(number) => actions::disconnect(&number, query, &body, admin),
        Route::Call { class, method } => {
            call::call(&class, &method, query, &parts.headers, body, admin).await
        }
        Route::Master(name) => actions::appoint(&name, query, &parts.headers, body, admin).await,
    }
}

impl Route {
    fn find(path: &str) -> Result<Self, Problem> {
        let parts = path.split('/').skip(1).map(unescape);
        let parts: Vec<String> = parts.collect::<Result<_, _>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(match parts.as_slice() {
            [""] => Self::Page,
            ["healthz"] => Self::Healthz,
            ["readyz"] => Self::Readyz,
            ["metrics"] => Self::Metrics,
            ["api", "v1", "classes"] => Self::Classes,
            ["api", "v1", "classes", name] => Self::Class((*name).to_owned()),
            ["api", "v1", "sessions"] => Self::Sessions,
            ["api", "v1", "sessions", number] => Self::Session((*number).to_owned()),
            ["api", "v1", "routers"] => Self::Routers,
            ["api", "v1", "config"] => Self::Config,
            ["api", "v1", "events"] => Self::Events,
            ["api", "v1", "openapi.yaml"] => Self::Description,
            ["api", "v1", "stream"] => Self::Stream,
            ["api", "v1", "drain"] => Self::Drain,
            ["api", "v1", "reload"] => Self::Reload,
            ["api", "v1", "sessions", number, "disconnect"] => {
                Self::Disconnect((*number).to_owned())
            }
            ["call", class, method] => {
                Self::Call { class: (*class).to_owned(), method: (*method).to_owned() }
            }
            ["api", "v1", "classes", name, "master"] => Self::Master((*name).to_owned()),
            _ => return Err(Problem::not_found(EXISTS)),
        })
    }

    /// The methods that it takes.
    fn allowed(&self) -> &'static str {
        match self {
            Self::Drain
            | Self::Reload
            | Self::Disconnect(_)
            | Self::Master(_)
            | Self::Call { .. } => "POST",
            // It has no end, and so no length.
            Self::Stream => "GET",
            _ => "GET, HEAD",
        }
    }
}

fn metrics_page(admin: &Admin) -> Answered {
    let failed = |error: prometheus::Error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    };
    let page = metrics::page(&admin.shared).map_err(failed)?;
    Ok(whole(StatusCode::OK, prometheus::TEXT_FORMAT, Bytes::from(page)))
}

const EXISTS: &str = "nothing is here; the page is at /, and there are /healthz, /readyz, /metrics, \
                      /call/{class}/{method}, and /api/v1/ with classes, sessions, routers, config, events, stream, \
                      openapi.yaml, drain and reload";
